import { aPath, aText, check, checkOptions, listOf } from "../gpu/common/check_options.ts";
import { OutOfMemoryError, TilereelError } from "../gpu/common/errors.ts";
import type { ClampCount } from "../gpu/clamps.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { countNonFinite } from "../gpu/ops/count_non_finite.ts";
import { sizeOf, type Tensor } from "../gpu/tensor.ts";
import { TensorOwner } from "../gpu/tensor_owner.ts";
import type { HeadShape, TokenLayout } from "./attention/layout.ts";
import type { AttentionMethod } from "./attention/method.ts";
import type { AttentionReport } from "./attention/report.ts";
import type { WeightsChoice, WeightsPlacement } from "./blocks/weights_place.ts";
import type { CacheReport, StepCache } from "./cache/step_cache.ts";
import type { GenerationDefaults } from "./checkpoint/generation_defaults.ts";
import { openModel } from "./checkpoint/model_folder.ts";
import type { GivenParts, PartPlace } from "./checkpoint/part_place.ts";
import { sizeNote, trainedFlowShift } from "./checkpoint/trained_sizes.ts";
import { checkFinite, type ConditionedPass, denoise, type DenoisingTask } from "./denoise.ts";
import { type Conditioning, type FamilyModel, FRUGAL, type PromptEncoder, type VideoVae } from "./family.ts";
import type { PlacedTransformer } from "./blocks/placed_transformer.ts";
import type { FileStore } from "./files/store.ts";
import { conditionedBy, type GuidedPass } from "./guidance.ts";
import { denoisingWork, loadTransformer } from "./load_transformer.ts";
import type { Picture } from "./picture/picture.ts";
import { checkPictures, pictureNotes } from "./pictures_of_clip.ts";
import { ENCODE_PROMPTS_KINDS, GENERATE_KINDS, LOAD_KINDS } from "./pipeline_options.ts";
import type { OnProgress } from "./progress.ts";
import { Noise } from "./noise.ts";
import { type PromptEmbeddings, tensorsOf, uploadEmbeddings } from "./prompt_encoder.ts";
import { goesOnText, type SamplingState } from "./sampling_state.ts";
import type { SchedulerConfig, SchedulerKind } from "./schedulers/config.ts";
import { createScheduler } from "./schedulers/scheduler.ts";
import { type Sigmas, stepsOf } from "./schedulers/sigmas.ts";
import type { GuidancePartner } from "./split_guidance/partner.ts";
import type { OpenTextEncoder, TextEncodeOptions } from "./text_encoder.ts";
import { TinyAutoencoder } from "./taehv/autoencoder.ts";
import { latentVideo } from "./vae/latent_rgb.ts";
import type { Video } from "./video/video.ts";
import { checkClip, type ClipSize } from "./video_size.ts";
import { openWeightOptions, type WeightChoices, type WeightOptionsOf } from "./weights/weight_options.ts";

/** Numbers with a shape, in this machine's memory. */
export interface Array5D {
  readonly data: Float32Array;
  /** [1, channels, frames, height, width] */
  readonly shape: readonly number[];
}

/** The settings on which a clip's memory depends. */
export type ClipToCome = Pick<
  GenerateOptions,
  "width" | "height" | "frames" | "guidance" | "cache" | "attention" | "image"
>;

/** Options of {@link VideoPipeline.load}. */
export interface LoadOptions extends WeightChoices {
  /** Where the model is to run; the caller's. */
  readonly gpu: Gpu;
  /**
   * Folders or single files of weights that replace parts of the model, by the parts' names: `{ vae: "vae.safetensors" }`.
   * The tensors of a single file may have the names of other programs. Its configuration is read from its shapes, and
   * what these do not show from the `config.json` of the model's own part.
   */
  readonly parts?: GivenParts | undefined;
  /**
   * Opens a text encoder to use instead of the model's own, such as `onnxTextEncoder("encoder.onnx")`. Where a model has
   * several, it replaces the one that makes the text embeddings.
   */
  readonly textEncoder?: OpenTextEncoder | undefined;
  /**
   * Where the transformer's blocks are kept: on the GPU, or on disk, from where each is uploaded when it is needed.
   * "auto", the default, keeps them on the GPU if they fit beside the work on the largest of `clips`, and moves them to
   * disk when memory runs out all the same.
   */
  readonly weights?: WeightsChoice | undefined;
  /**
   * The clips that memory is planned for. Default, and for an empty list: one with the model's defaults. Larger ones may
   * be rendered, too, if memory suffices.
   */
  readonly clips?: readonly ClipToCome[] | undefined;
  /**
   * A tiny autoencoder (TAEHV) that decodes previews, where it fits beside the work. Default: the model's own, if it is
   * one; otherwise latents are shown by a linear map, if the family knows one.
   */
  readonly previewVae?: PartPlace | undefined;
  /** Told "load vae" in tensors, "load transformer" in bytes. */
  readonly onProgress?: OnProgress | undefined;
  /** Ends loading before the autoencoder, or before or after the transformer; the promise rejects with its reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Options of {@link VideoPipeline.encodePrompts}. */
export interface EncodePromptsOptions extends TextEncodeOptions {
  /** Tokens that each prompt is padded or cut to. Default: the model's. */
  readonly textTokens?: number | undefined;
}

/** Options of {@link VideoPipeline.generate}. */
export interface GenerateOptions {
  /** The prompt: what the clip should show. */
  readonly prompt: string;
  /** What the clip should not show. Default: the empty prompt. */
  readonly negativePrompt?: string;
  /** Embeddings to use instead of encoding the prompts. */
  readonly embeddings?: PromptEmbeddings;
  /** Pixels; multiples of 16. Defaults for this and what follows are the model's: {@link VideoPipeline.defaults}. */
  readonly width?: number;
  readonly height?: number;
  /** 4k + 1. */
  readonly frames?: number;
  /** Frames a second; written into the file, the model knows nothing of it. */
  readonly fps?: number;
  /**
   * Denoising steps: how many times the model is asked, or twice that where guidance takes a second pass. Where
   * {@link sigmas} is a list, its length.
   */
  readonly steps?: number;
  /** Tokens that a prompt is padded or cut to. */
  readonly textTokens?: number;
  /** What the clip begins with, for models that are told so: scaled and cropped to the clip's size. */
  readonly image?: Picture;
  /** So too what it ends with. */
  readonly lastImage?: Picture;
  /** The scale of guidance. At 1 and below, models that guide by a second pass run none, which is half the work. */
  readonly guidance?: number;
  /** That at low noise, with models that have another transformer there. Default: `guidance`, or the model's */
  readonly guidanceLow?: number;
  /** Of the start noise: torch's, on the CPU. Default 0. */
  readonly seed?: number;
  /** In place of the model's own. */
  readonly scheduler?: SchedulerKind;
  /** Above 0: how much the steps dwell on high noise. In place of the model's own, which may depend on the size. */
  readonly flowShift?: number;
  /**
   * The noise levels before the flow shift: evenly spaced as one of the grids that have names, or a falling list.
   * Default: the grid of the model's family.
   */
  readonly sigmas?: Sigmas;
  /** Start noise to use instead of the seed's: [1, channels, latent frames, height / 8, width / 8]. */
  readonly latents?: Array5D;
  /** Told "encode prompt", "denoise" in steps, "decode". */
  readonly onProgress?: OnProgress;
  /**
   * Told in a clause what may disappoint: words of a prompt that the model does not know or that are too many, a
   * negative prompt without effect, a size that the model was not trained on, or settings of its own that do not fit the
   * clip.
   */
  readonly onNote?: (note: string) => void;
  /**
   * Called after each step (from 0) is recorded, with its latents, which are freed later. To read them is to wait until
   * the GPU has computed the step.
   */
  readonly onStep?: (latents: Tensor, step: number) => Promise<void> | void;
  /**
   * Called as {@link onStep} is, with the clean latents that the step predicts: what is seen of the clip until then. They
   * are freed when the promise resolves. {@link VideoPipeline.preview} makes pictures of them.
   */
  readonly onPreview?: (clean: Tensor, step: number) => Promise<void> | void;
  /**
   * Called with how far the clip is, now and then: as {@link onStep} is, but of the step before, which the GPU has
   * computed then. It is waited for. A clip with a step cache that is not `resumable` has no states.
   */
  readonly onState?: (state: SamplingState) => Promise<void> | void;
  /**
   * Milliseconds from one state to the next, at least, because they are read from the GPU. The last step has one, too,
   * where the steps took so long together. The first two of a run have none: nobody knows yet how long they take. With 0,
   * each step has one. A clip whose memory runs out goes on from the last state that was read. Default: 1000
   */
  readonly stateInterval?: number;
  /**
   * How far a clip with the same options on the same adapter was: it goes on from there, and is the same to the byte. The
   * number of its steps and the size of its latents are checked, and nothing else.
   */
  readonly resumeFrom?: SamplingState;
  /** How self-attention is computed. Default: full attention, or that of a distilled model. */
  readonly attention?: AttentionMethod;
  /** Told what self-attention did, after the last step. */
  readonly onAttention?: (report: AttentionReport) => void;
  /** Uses again in a step what earlier steps computed. Default: none */
  readonly cache?: StepCache;
  /** Told what the cache spared, after the last step. */
  readonly onCache?: (report: CacheReport) => void;
  /** Computes the pass of the negative prompt, at the same time. If it fails, the clip goes on without it. Default: none */
  readonly partner?: GuidancePartner;
  /** Told what f16 could not hold, once the clip is made, if there was anything: it became ±65504. */
  readonly onClamped?: (clamped: readonly ClampCount[]) => void;
  /**
   * Ends the run soon, in any stage: before the text encoder's next block (in ONNX: before or after it runs), the next
   * denoising step, or the next chunk of frames to decode. The promise rejects with the signal's reason, and the GPU
   * memory of the clip is freed.
   */
  readonly signal?: AbortSignal;
}

interface Parts {
  readonly model: FamilyModel;
  readonly prompts: PromptEncoder;
  readonly transformer: PlacedTransformer;
  readonly vae: VideoVae;
  /** Decodes previews. */
  readonly tiny: TinyAutoencoder | undefined;
  readonly weightOptions: WeightOptionsOf;
  /** Files that add to the weights of text encoders. */
  readonly textDeltas: readonly string[];
}

const OUT_OF_MEMORY = "GPU memory ran out";

/** How a clip is decoded with less memory, as a note says it. */
const FRUGAL_TEXT = {
  frames: "frame by frame",
  tiles: "in tiles, whose seams are blended",
  "small tiles": "in small tiles, whose seams are blended",
} as const;

/** The most numbers of start noise that are drawn before it is known whether there is room for them on the GPU. */
const MOST_DRAWN = 2 ** 24;

/** The noise that a clip begins with, drawn while weights of the text encoder are read. Undefined where it needs none. */
function startNoise(shape: readonly number[], { seed = 0, latents, resumeFrom }: GenerateOptions): Noise | undefined {
  const count = sizeOf(shape);
  if (latents || resumeFrom || count > MOST_DRAWN) return undefined;
  const noise = new Noise(seed);
  noise.drawAhead(count);
  return noise;
}

/** Kinds that a note names, the most clamped first. */
const NAMED_CLAMPS = 5;

/** A clause that says what f16 could not hold, and what to do. */
export function clampedText(clamped: readonly ClampCount[]): string {
  const sorted = clamped.toSorted((a, b) => b.count - a.count), rest = sorted.length - NAMED_CLAMPS;
  const named = sorted.slice(0, NAMED_CLAMPS)
    .map(({ what, count }) => `${what} (${count} ${count === 1 ? "time" : "times"})`).join(", ");
  const all = rest > 0 ? `${named} and ${rest} others` : named;
  return `f16 ends at 65504 and could not hold all numbers of ${all}, which were clamped to that: if the clip is not ` +
    `as it should be, try precision f32`;
}

/** A loaded model, from text to video: prompt → tokens → embeddings → latents → frames. */
export class VideoPipeline {
  #closed = false;
  #busy = false;
  /** The shapes of latents for which the decoder's kernels were compiled. */
  readonly #decoded = new Set<string>();
  /** What was noted to be clamped. */
  readonly #noted = new Set<string>();
  /** What nobody was there to be told of. */
  #untold: readonly ClampCount[] = [];

  /** @param owned frees the parts */
  private constructor(
    private readonly gpu: Gpu,
    private readonly parts: Parts,
    private readonly owned: DisposableStack,
  ) {}

  /**
   * Loads a model folder in the diffusers layout. The text encoder's weights are read when a prompt is encoded.
   *
   * @throws {TilereelError} if the folder holds no model that can be run, a file is damaged, or memory runs out
   */
  static async load(model: string | FileStore, options: LoadOptions): Promise<VideoPipeline> {
    if (typeof model !== "object") check("VideoPipeline.load: the model's folder", model, aPath);
    checkOptions("VideoPipeline.load", options, LOAD_KINDS, ["gpu"]);
    // Damaged files are found before anything is uploaded.
    return await VideoPipeline.of(await openModel(model, options.parts), options);
  }

  /**
   * Loads an opened model, which is taken over.
   *
   * @throws {TilereelError} if a weight is missing or does not fit, or memory runs out
   */
  static async of(model: FamilyModel, options: Omit<LoadOptions, "parts">): Promise<VideoPipeline> {
    const { gpu, textEncoder: openEncoder, onProgress, signal } = options;
    using loaded = new DisposableStack();
    loaded.use(model);
    const work = denoisingWork(gpu, model, options.clips);
    signal?.throwIfAborted();
    const { of: weightOptions } = loaded.use(await openWeightOptions(gpu, model.family, options));
    const prompts = loaded.use(model.promptEncoder(gpu, { openEncoder, weightOptions }));
    const vae = loaded.use(await model.loadVae(gpu, "decoder", onProgress));
    const tiny = options.previewVae === undefined
      ? vae instanceof TinyAutoencoder ? vae : undefined
      : loaded.use(await TinyAutoencoder.open(gpu, options.previewVae, model, onProgress));
    signal?.throwIfAborted();
    const transformer = loaded.use(await loadTransformer(model, weightOptions, work, options));
    signal?.throwIfAborted();
    const textDeltas = Object.entries(model.family.parts)
      .filter(([, { replacedBy }]) => replacedBy?.includes("embeddings"))
      .map(([part]) => weightOptions(part).adjust?.path).filter((path) => path !== undefined);
    const parts = { model, prompts, transformer, vae, tiny, weightOptions, textDeltas };
    return new VideoPipeline(gpu, parts, loaded.move());
  }

  /** Where the transformer's blocks lie, why there, and in which formats. */
  get weights(): WeightsPlacement {
    return this.parts.transformer.placement;
  }

  /** The defaults for {@link GenerateOptions}. */
  get defaults(): GenerationDefaults {
    return this.parts.model.defaults;
  }

  /** Channels of the text embeddings that the model takes. */
  get textDim(): number {
    return this.parts.model.textDim;
  }

  /** Channels of the prompt as one vector, in models that take it beside the text; otherwise undefined. */
  get pooledDim(): number | undefined {
    return this.parts.model.pooledDim;
  }

  /** Layers of the transformer, heads of each, and channels of a head. */
  get headShape(): HeadShape {
    return this.parts.model.shape;
  }

  /** The model's own sampler and its settings. */
  get scheduler(): SchedulerConfig {
    return this.parts.model.scheduler;
  }

  /** The forward passes of each step. */
  passes(guidance: number): readonly GuidedPass[] {
    return this.parts.model.passes(guidance);
  }

  /** The tokens of a clip. */
  layout(clip: ClipSize): TokenLayout {
    return this.parts.model.layout(clip);
  }

  /** Whether previews are decoded on the GPU, and not by a linear map. */
  get decodesPreviews(): boolean {
    return this.parts.tiny !== undefined;
  }

  /**
   * What latents show: decoded by a tiny autoencoder, if there is one and it fits beside the work, or a small clip with a
   * pixel for each latent; see {@link latentVideo}. The latents may be freed before the promise resolves, if no tiny
   * autoencoder is there.
   *
   * @param latents [1, channels, latent frames, height, width], as {@link GenerateOptions.onPreview} has them
   * @param fps frames a second of the clip
   * @returns undefined if the model does not say which colours its latents have
   */
  async preview(latents: Tensor, fps = this.defaults.fps): Promise<Video | undefined> {
    const { tiny, model: { latentRgb, family } } = this.parts;
    if (tiny?.fitsWhole(latents)) return { ...await tiny.decodeClip(latents), fps };
    if (latentRgb === undefined) return undefined;
    const data = await this.gpu.read(latents);
    return latentVideo({ data, shape: latents.shape }, latentRgb, fps / family.multiples.frames);
  }

  /** Frees the GPU memory of the model, which cannot be used afterwards. The `Gpu` stays open. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.owned.dispose();
    this.gpu.trim();
  }

  /**
   * Renders a clip. Where memory runs out on the way, it goes on with less: weights are read from disk block by block,
   * frames are decoded one by one, and then in tiles. A note says so.
   *
   * @throws {TilereelError} if the settings do not fit the model, memory runs out, the GPU is lost, or this pipeline is
   * closed or at work on another clip
   * @throws the signal's reason, if it is aborted before the clip is done, or before the call
   */
  async generate(options: GenerateOptions): Promise<Video> {
    checkOptions("VideoPipeline.generate", options, GENERATE_KINDS, ["prompt"]);
    return await this.#alone(options.signal, () => this.#generate(options));
  }

  async #generate(options: GenerateOptions): Promise<Video> {
    const { gpu, parts: { vae }, defaults } = this, { signal } = options;
    const { width = defaults.width, height = defaults.height, frames = defaults.frames, fps = defaults.fps } = options;
    using owned = new TensorOwner(gpu);
    let compiled: Promise<void> | undefined;
    const sampled = owned.adopt(
      await this.#sampleLatents(options, (latents) => compiled ??= this.#compileDecoder(latents)),
    );
    await compiled;
    await checkFinite(gpu, sampled);
    const latents = owned.adopt(vae.denormalize(sampled));
    owned.free(sampled);
    const data = await gpu.labelled("decode", () => this.#decode(latents, options));
    await this.#tellClamped(options);
    signal?.throwIfAborted();
    return { width, height, frames, fps, data };
  }

  /**
   * Compiles the kernels with which such latents are decoded, if they are the first of their size: one after the other,
   * when decoding begins, they would take seconds on a GPU that was not used before.
   */
  async #compileDecoder(latents: Tensor): Promise<void> {
    const { gpu, parts: { vae } } = this, size = latents.shape.join();
    if (!gpu.compilesAhead || !vae.listDecoding || this.#decoded.has(size)) return;
    this.#decoded.add(size);
    const { countsClamps } = gpu;
    const list = () => {
      gpu.countsClamps = true;
      try {
        countNonFinite(gpu, latents);
        vae.listDecoding!(vae.denormalize(latents));
      } finally {
        gpu.countsClamps = countsClamps;
      }
    };
    // Steps are recorded meanwhile, in this thread.
    await gpu.compileAhead([list], "none", false);
  }

  /** Decodes latents, with as little memory as it needs to. */
  async #decode(latents: Tensor, { onProgress, signal, onNote }: GenerateOptions): Promise<Uint8Array> {
    const { gpu, parts: { transformer: { transformer }, vae } } = this;
    // Rather read weights anew for the next clip than cut this one into tiles.
    if (!vae.fitsWhole(latents)) transformer.dropBlocks();
    gpu.trim();
    for (const [i, frugal] of [undefined, ...FRUGAL].entries()) {
      try {
        return await vae.decodeRgb8(latents, { onProgress, signal, ...frugal && { frugal } });
      } catch (thrown) {
        const error = await gpu.causeOf(thrown), next = FRUGAL[i];
        if (!(error instanceof OutOfMemoryError) || next === undefined) throw error;
        transformer.dropBlocks();
        if (!await gpu.recover()) throw error;
        gpu.trim();
        onNote?.(`GPU memory ran out while the clip was decoded, which begins again ${FRUGAL_TEXT[next]}`);
      }
    }
    throw new Error("there is no other way to decode");
  }

  /**
   * The latents that {@link generate} decodes, as the transformer gives them: normalized.
   *
   * @returns [1, channels, latent frames, height / 8, width / 8], f32; the caller's
   * @throws as {@link generate} does
   */
  async sampleLatents(options: GenerateOptions): Promise<Tensor> {
    checkOptions("VideoPipeline.sampleLatents", options, GENERATE_KINDS, ["prompt"]);
    return await this.#alone(options.signal, () => this.#sampleLatents(options));
  }

  /**
   * Samples. Where memory runs out, it goes on with weights from disk.
   *
   * @param begun see `DenoisingTask`; it is called again where the steps begin again
   */
  async #sampleLatents(options: GenerateOptions, begun?: DenoisingTask["begun"]): Promise<Tensor> {
    const noted = new Set<string>(), { transformer } = this.parts;
    let last = options.resumeFrom;
    const onState = (state: SamplingState) => {
      last = state;
      return options.onState?.(state);
    };
    // Whoever follows the steps would count some of them twice.
    const canStream = transformer.canStream && !options.onStep, keeps = canStream || options.onState !== undefined;
    const onNote = (note: string) => {
      if (!noted.has(note)) options.onNote?.(note);
      noted.add(note);
    };
    try {
      return await this.#sampleOnce({ ...options, onNote, ...keeps && { onState } }, begun);
    } catch (thrown) {
      const error = await this.gpu.causeOf(thrown);
      if (!(error instanceof OutOfMemoryError) || !canStream) throw error;
      if (!await transformer.stream(OUT_OF_MEMORY)) throw error;
      options.signal?.throwIfAborted();
      onNote(
        `${OUT_OF_MEMORY}, so the weights are read from disk in each step from now on, and the clip ` +
          `${goesOnText(last)}; a memory limit, a smaller size or fewer frames avoid that`,
      );
      return await this.#sampleOnce({ ...options, onNote, ...last && { resumeFrom: last } }, begun);
    }
  }

  async #sampleOnce(options: GenerateOptions, begun?: DenoisingTask["begun"]): Promise<Tensor> {
    const { gpu, parts, defaults } = this;
    const { width = defaults.width, height = defaults.height, frames = defaults.frames } = options;
    const clip = { width, height, frames };
    checkClip(parts.model.family.multiples, clip);
    checkPictures(parts.model, options);
    for (const note of pictureNotes(options, clip)) options.onNote?.(note);
    const note = sizeNote(defaults.trained, clip);
    if (note !== undefined) options.onNote?.(note);
    const { flowShift = trainedFlowShift(defaults.trained, clip) } = options;
    const scheduler = createScheduler(parts.model.scheduler, {
      steps: stepsOf(options.sigmas, options.steps, defaults.steps),
      kind: options.scheduler,
      flowShift,
      sigmas: options.sigmas,
    });
    for (const note of parts.model.scheduleNotes({ ...options, flowShift, width, height })) options.onNote?.(note);
    const shape = this.#latentShape(clip, options.latents);
    gpu.countsClamps = true;
    using owned = new TensorOwner(gpu);
    const encoding = gpu.labelled("encode prompt", () => this.#conditionedPasses(options));
    const noise = startNoise(shape, options), prompted = await encoding;
    for (const { conditioning } of prompted) owned.adopt(tensorsOf(conditioning));
    const passes = options.image === undefined ? prompted : await this.#withPictures(owned, prompted, clip, options);
    // Each stage wants buffers of other sizes: those of the one before would lie idle beside them.
    gpu.trim();
    const { model, transformer: { transformer } } = parts;
    return await gpu.labelled(
      "denoise",
      () => denoise({ gpu, model, transformer, clip, shape, passes, scheduler, noise, begun }, options),
    );
  }

  /** The passes with what the pictures of a clip add to each of them. */
  async #withPictures(
    owned: TensorOwner,
    passes: readonly ConditionedPass[],
    clip: ClipSize,
    options: GenerateOptions,
  ): Promise<ConditionedPass[]> {
    const { gpu, parts: { model, weightOptions } } = this, { onProgress, signal } = options;
    const seen = await gpu.labelled(
      "encode image",
      () => model.conditionOn!(gpu, options, clip, { onProgress, signal, weightOptions }),
    );
    for (const tensor of Object.values(seen)) if (typeof tensor === "object") owned.adopt(tensor);
    return passes.map((pass) => ({ ...pass, conditioning: { ...pass.conditioning, ...seen } }));
  }

  /** The passes of each step, with their prompts embedded; the tensors are the caller's. */
  async #conditionedPasses(options: GenerateOptions): Promise<ConditionedPass[]> {
    const { gpu, parts: { model, prompts, textDeltas }, defaults } = this;
    const { prompt, negativePrompt = "", embeddings, textTokens = defaults.textTokens } = options;
    const { guidance = defaults.guidance, guidanceLow = options.guidance ?? defaults.guidanceLow } = options;
    const passes = model.passes(guidance, guidanceLow);
    const texts = { prompt, "negative prompt": negativePrompt };
    if (negativePrompt !== "" && !passes.some(({ name }) => name === "negative prompt")) {
      options.onNote?.("the negative prompt has no effect, because this model runs no pass for it at this guidance");
    }
    if (embeddings && textDeltas.length > 0) {
      options.onNote?.(
        `${[...new Set(textDeltas)].join(" and ")} changes the text encoder, which given embeddings do not need`,
      );
    }
    const conditionings = embeddings
      ? uploadEmbeddings(gpu, embeddings, passes.length, model)
      : await prompts.encode(passes.map(({ name }) => texts[name]), textTokens, options);
    return passes.map((pass, i) => ({ ...pass, conditioning: conditionedBy(pass, conditionings[i]!) }));
  }

  /**
   * Embeds prompts.
   *
   * @returns for each prompt, in a batch of one, its text [1, text tokens, text dim], f32, zero past its end, which
   * {@link GenerateOptions.embeddings} takes; the caller's
   * @throws {TilereelError} if the model has no text encoder or it does not fit
   * @throws the signal's reason, if it is aborted
   */
  async encodePrompts(prompts: readonly string[], options: EncodePromptsOptions = {}): Promise<Conditioning[]> {
    check("VideoPipeline.encodePrompts: prompts", prompts, listOf(aText, "a list of texts"));
    checkOptions("VideoPipeline.encodePrompts", options, ENCODE_PROMPTS_KINDS);
    const { textTokens = this.defaults.textTokens, onProgress, signal } = options;
    return await this.#alone(signal, () => this.parts.prompts.encode(prompts, textTokens, { onProgress, signal }));
  }

  /** Work on the model, of which there is one piece at a time: it records on one GPU, and frees what is not its own. */
  async #alone<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    if (this.#closed) throw new TilereelError("this pipeline is closed: load the model again with VideoPipeline.load");
    if (this.#busy) {
      throw new TilereelError("this pipeline is still rendering another clip: await it before you call generate again");
    }
    signal?.throwIfAborted();
    this.#busy = true;
    try {
      return await work();
    } catch (error) {
      throw await this.gpu.causeOf(error);
    } finally {
      this.#busy = false;
      this.gpu.countsClamps = false;
    }
  }

  /** Says what was clamped while the clip was made, or loaded before the first; in a note what no clip before had. */
  async #tellClamped({ onClamped, onNote }: GenerateOptions): Promise<void> {
    const clamped = await this.gpu.takeClamped();
    if (clamped.length === 0) return;
    onClamped?.(clamped);
    const news = [...this.#untold, ...clamped].filter(({ what }) => !this.#noted.has(what));
    this.#untold = onNote ? [] : news;
    if (!onNote || news.length === 0) return;
    for (const { what } of news) this.#noted.add(what);
    onNote(clampedText(news));
  }

  /** Shape of a clip's latents, which given start noise must have. */
  #latentShape(clip: ClipSize, given: Array5D | undefined): readonly number[] {
    const shape = this.parts.model.latentShape(clip);
    if (given && given.shape.join() !== shape.join()) {
      throw new TilereelError(
        `the start noise has shape [${given.shape.join(", ")}], but ${clip.width}x${clip.height} and ` +
          `${clip.frames} frames need [${shape.join(", ")}]`,
      );
    }
    return shape;
  }
}
