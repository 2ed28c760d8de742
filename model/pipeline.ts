/**
 * Text to video: prompt → tokens → embeddings → latents → frames.
 *
 * @module
 */
import { TilereelError } from "../errors.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { combine } from "../gpu/ops/combine.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { type AttentionMethod, fullAttention } from "./attention/method.ts";
import type { AttentionReport } from "./attention/report.ts";
import type { GenerationDefaults } from "./checkpoint/generation_defaults.ts";
import { type ModelFolder, openModelFolder } from "./checkpoint/model_folder.ts";
import { openCheckpoint } from "./checkpoint/sharded.ts";
import { randn } from "./noise.ts";
import type { OnProgress } from "./progress.ts";
import { readSchedulerConfig, type SchedulerConfig, type SchedulerKind } from "./schedulers/config.ts";
import { createScheduler } from "./schedulers/scheduler.ts";
import { type PromptEmbeddings, PromptEncoder } from "./prompt_encoder.ts";
import { AutoencoderKLWan } from "./vae/autoencoder.ts";
import { readVaeConfig, type VaeConfig } from "./vae/config.ts";
import type { Video } from "./video.ts";
import { checkFrames, checkSize, FRAME_MULTIPLE, SIZE_MULTIPLE } from "./video_size.ts";
import type { SelfAttention } from "./wan/attention.ts";
import { readTransformerConfig, type TransformerConfig } from "./wan/config.ts";
import { WanTransformer3DModel } from "./wan/transformer.ts";

/** Numbers with a shape, in this machine's memory. */
export interface Array5D {
  readonly data: Float32Array;
  /** [1, channels, frames, height, width] */
  readonly shape: readonly number[];
}

/** What {@link WanPipeline.load} takes. */
export interface LoadOptions {
  /** Where the model is to run; the caller's. */
  readonly gpu: Gpu;
  /** An ONNX file to run as the text encoder instead of the model's own. */
  readonly textEncoder?: string;
  /** Told "load transformer" in bytes, "load vae" in tensors. */
  readonly onProgress?: OnProgress;
}

/** What {@link WanPipeline.generate} takes. */
export interface GenerateOptions {
  /** What to show. */
  readonly prompt: string;
  /** What to steer away from. Default: nothing, the empty prompt. */
  readonly negativePrompt?: string;
  /** Embeddings to use instead of encoding the prompts. */
  readonly embeddings?: PromptEmbeddings;
  /** Pixels; multiples of 16. Defaults for this and what follows are the model's: {@link WanPipeline.defaults}. */
  readonly width?: number;
  readonly height?: number;
  /** 4k + 1. */
  readonly frames?: number;
  /** Frames a second; written into the file, the model knows nothing of it. */
  readonly fps?: number;
  /** Denoising steps: how many times the model is asked, or twice that with guidance. */
  readonly steps?: number;
  /** Tokens that a prompt is padded or cut to. */
  readonly textTokens?: number;
  /** Classifier-free guidance scale; 1 and below: none, and half the work. */
  readonly guidance?: number;
  /** Of the start noise: torch's, on the CPU. Default 0. */
  readonly seed?: number;
  /** In place of the model's own. */
  readonly scheduler?: SchedulerKind;
  /** Above 0: how much the steps dwell on high noise. In place of the model's own. */
  readonly flowShift?: number;
  /** Start noise to use instead of the seed's: [1, channels, latent frames, height / 8, width / 8]. */
  readonly latents?: Array5D;
  /** Told "encode prompt", "denoise" in steps, "decode". */
  readonly onProgress?: OnProgress;
  /** Shown the latents after each step; must not keep them. */
  readonly onStep?: (latents: Tensor, step: number) => Promise<void> | void;
  /** How self-attention is computed. Default: full attention. */
  readonly attention?: AttentionMethod;
  /** Told what self-attention did, after the last step. */
  readonly onAttention?: (report: AttentionReport) => void;
  /** Ends the run between two steps. */
  readonly signal?: AbortSignal;
}

interface Parts {
  readonly folder: ModelFolder;
  readonly prompts: PromptEncoder;
  readonly scheduler: SchedulerConfig;
  readonly transformer: WanTransformer3DModel;
  readonly vae: AutoencoderKLWan;
}

/** A loaded model. */
export class WanPipeline {
  private constructor(private readonly gpu: Gpu, private readonly parts: Parts) {}

  /**
   * Loads a model folder in the diffusers layout. The text encoder's weights are read when a prompt is encoded.
   *
   * @throws {TilereelError} if the folder holds no model that can be run, a file is damaged, or memory runs out
   */
  static async load(dir: string, { gpu, textEncoder, onProgress }: LoadOptions): Promise<WanPipeline> {
    const folder = await openModelFolder(dir);
    const transformerDir = await folder.component("transformer"), vaeDir = await folder.component("vae");
    const config = await readTransformerConfig(`${transformerDir}/config.json`);
    const vaeConfig = await readVaeConfig(`${vaeDir}/config.json`);
    const scheduler = await readSchedulerConfig(`${await folder.component("scheduler")}/scheduler_config.json`);
    checkLatents(dir, config, vaeConfig);
    using loaded = new DisposableStack();
    // Damaged files are found before anything is uploaded.
    using transformerSource = await openCheckpoint(transformerDir, "diffusion_pytorch_model");
    using vaeSource = await openCheckpoint(vaeDir, "diffusion_pytorch_model");
    const prompts = loaded.adopt(
      new PromptEncoder(gpu, folder, { textDim: config.textDim, onnx: textEncoder }),
      (p) => p.release(),
    );
    const transformer = loaded.adopt(
      await WanTransformer3DModel.load(gpu, transformerSource, config, onProgress),
      (t) => t.release(),
    );
    const vae = await AutoencoderKLWan.load(gpu, vaeSource, vaeConfig, onProgress, ["decoder"]);
    loaded.move();
    return new WanPipeline(gpu, { folder, prompts, scheduler, transformer, vae });
  }

  /** What is rendered where {@link GenerateOptions} says nothing. */
  get defaults(): GenerationDefaults {
    return this.parts.folder.generation;
  }

  /** Channels of the text embeddings that the model takes. */
  get textDim(): number {
    return this.parts.transformer.config.textDim;
  }

  /** Layers of the transformer, heads of each, and channels of a head. */
  get headShape(): Pick<TransformerConfig, "layers" | "heads" | "headDim"> {
    const { layers, heads, headDim } = this.parts.transformer.config;
    return { layers, heads, headDim };
  }

  /** Frees the GPU memory of the model. The `Gpu` stays open. */
  close(): void {
    const { prompts, transformer, vae } = this.parts;
    for (const part of [prompts, transformer, vae]) part.release();
    this.gpu.trim();
  }

  /**
   * Renders a clip.
   *
   * @throws {TilereelError} if the settings do not fit the model, memory runs out, or the GPU is lost
   * @throws the signal's reason, if it is aborted
   */
  async generate(options: GenerateOptions): Promise<Video> {
    const { gpu, parts: { vae }, defaults } = this;
    const { width = defaults.width, height = defaults.height, frames = defaults.frames, fps = defaults.fps } = options;
    let latents = await this.sampleLatents(options);
    try {
      const denormalized = vae.denormalize(latents);
      gpu.release(latents);
      latents = denormalized;
      gpu.trim();
      const clean = latents;
      const data = await gpu.labelled("decode", () => vae.decodeRgb8(clean, { onProgress: options.onProgress }));
      return { width, height, frames, fps, data };
    } finally {
      gpu.release(latents);
    }
  }

  /**
   * The latents that {@link generate} decodes, as the transformer gives them: normalized.
   *
   * @returns [1, channels, latent frames, height / 8, width / 8], f32; the caller's
   * @throws as {@link generate} does
   */
  async sampleLatents(options: GenerateOptions): Promise<Tensor> {
    const { gpu, parts, defaults } = this;
    const { width = defaults.width, height = defaults.height, frames = defaults.frames } = options;
    checkSize(width, height);
    checkFrames(frames);
    const scheduler = createScheduler(parts.scheduler, {
      steps: options.steps ?? defaults.steps,
      kind: options.scheduler,
      flowShift: options.flowShift,
    });
    const shape = this.#latentShape(width, height, frames, options.latents);
    const guidance = options.guidance ?? defaults.guidance;
    const prompts = guidance > 1 ? [options.prompt, options.negativePrompt ?? ""] : [options.prompt];
    const textTokens = options.textTokens ?? defaults.textTokens;
    const embeddings = await gpu.labelled("encode prompt", () => parts.prompts.encode(prompts, textTokens, options));
    // Each stage wants buffers of other sizes: those of the one before would lie idle beside them.
    gpu.trim();
    try {
      return await gpu.labelled("denoise", () => this.#denoise(shape, embeddings, scheduler, guidance, options));
    } finally {
      gpu.release(embeddings);
    }
  }

  /**
   * Embeds prompts: what {@link GenerateOptions.embeddings} takes.
   *
   * @param textTokens tokens that each is padded or cut to. Default: the model's
   * @returns [prompts, text tokens, text dim], f32, zero past a prompt's end; the caller's
   * @throws {TilereelError} if the model has no text encoder or it does not fit
   */
  async encodePrompts(prompts: readonly string[], textTokens?: number, onProgress?: OnProgress): Promise<Tensor> {
    const tokens = textTokens ?? this.defaults.textTokens;
    return await this.parts.prompts.encode(prompts, tokens, { ...onProgress && { onProgress } });
  }

  /** Shape of a clip's latents, which given start noise must have. */
  #latentShape(width: number, height: number, frames: number, given: Array5D | undefined): readonly number[] {
    const { spatialScale, temporalScale, zDim } = this.parts.vae.config;
    const shape = [1, zDim, (frames - 1) / temporalScale + 1, height / spatialScale, width / spatialScale];
    if (given && given.shape.join() !== shape.join()) {
      throw new TilereelError(
        `the start noise has shape [${given.shape.join(", ")}], but ${width}x${height} and ${frames} frames need ` +
          `[${shape.join(", ")}]`,
      );
    }
    return shape;
  }

  /** The latents to start from, on the GPU. */
  #startNoise(shape: readonly number[], { latents, seed = 0 }: GenerateOptions): Tensor {
    // Room first: noise for a clip that is far too large would not even fit this machine's memory.
    const noise = this.gpu.tensor(shape, "f32", "the start noise");
    this.gpu.write(noise, latents?.data ?? randn(noise.size, seed), 0);
    return noise;
  }

  /** Walks from noise to clean latents. */
  async #denoise(
    shape: readonly number[],
    embeddings: Tensor,
    scheduler: ReturnType<typeof createScheduler>,
    guidance: number,
    options: GenerateOptions,
  ): Promise<Tensor> {
    const { onProgress, onStep, signal } = options;
    const { gpu, parts: { transformer } } = this;
    using attention = await (options.attention ?? fullAttention).prepare({
      gpu,
      transformer,
      grid: transformer.gridOf(shape),
      timesteps: [...scheduler.timesteps],
    });
    const stepper = scheduler.start<Tensor>({
      combine: (terms) => combine(gpu, terms),
      release: (tensor) => gpu.release(tensor),
    });
    const total = scheduler.timesteps.length;
    /** Ours; undefined while the stepper has it. */
    let latents: Tensor | undefined = this.#startNoise(shape, options);
    // The GPU is never left without work: a step is under way while the next is recorded. Two are not, or progress and
    // Ctrl-C would come late.
    let underWay: Promise<void> | undefined;
    try {
      onProgress?.({ stage: "denoise", done: 0, total });
      for (const [step, timestep] of scheduler.timesteps.entries()) {
        signal?.throwIfAborted();
        const sample: Tensor = latents;
        const predict = (prompt: number, selfAttention: SelfAttention | undefined) =>
          gpu.scope(() => {
            // A copy: a prompt's embeddings may begin where no buffer can be bound.
            const textEmbeddings = gpu.tensor([1, ...embeddings.shape.slice(1)]);
            gpu.copy(embeddings.slice(prompt, 1), textEmbeddings);
            const input = { hiddenStates: sample, timesteps: [timestep], textEmbeddings, selfAttention };
            return gpu.labelled(prompt === 0 ? "prompt" : "negative prompt", () => transformer.forward(input));
          });
        const work = () =>
          gpu.scope(() => {
            const selfAttention = attention.at(step);
            const conditional = predict(0, selfAttention);
            if (guidance <= 1) return conditional;
            return combine(gpu, [[guidance, conditional], [1 - guidance, predict(1, selfAttention)]]);
          });
        const velocity = gpu.labelled(`step ${step + 1}`, work);
        latents = undefined;
        latents = stepper.step(velocity, sample);
        const recorded = gpu.finish();
        recorded.catch(() => {/* told where it is waited for, or by what came before */});
        await onStep?.(latents, step);
        await underWay;
        if (underWay) onProgress?.({ stage: "denoise", done: step, total });
        underWay = recorded;
      }
      await underWay;
      onProgress?.({ stage: "denoise", done: total, total });
      options.onAttention?.(attention.report);
      return latents;
    } catch (error) {
      stepper.dispose();
      if (latents) gpu.release(latents);
      throw error;
    }
  }
}

/** A transformer denoises what the VAE decodes, and every size that is let through can be cut into its patches. */
function checkLatents(dir: string, transformer: TransformerConfig, vae: VaeConfig): void {
  const { inChannels, outChannels, patchSize: [patchFrames, ...patch] } = transformer;
  const { zDim, spatialScale, temporalScale } = vae;
  if (inChannels !== zDim || outChannels !== zDim) {
    throw new TilereelError(
      `${dir}: the transformer takes ${inChannels} and gives ${outChannels} latent channels, but the VAE has ${zDim}; ` +
        `they belong to different models, or to one that does not make video from text alone`,
    );
  }
  const cuts = patch.map((length) => length * spatialScale);
  if (patchFrames !== 1 || FRAME_MULTIPLE % temporalScale !== 0 || cuts.some((cut) => SIZE_MULTIPLE % cut !== 0)) {
    throw new TilereelError(
      `${dir}: patch_size ${JSON.stringify(transformer.patchSize)} with a VAE that packs ${temporalScale} frames of ` +
        `${spatialScale}x${spatialScale} pixels is not supported; Wan 2.1 has [1,2,2] with 4 frames of 8x8`,
    );
  }
}
