import { liveTensors, OTHER_BYTES } from "../blocks/live_tensors.ts";
import { packedKeysBytes } from "../attention/head_groups.ts";
import { quotedValue, TilereelError } from "../../gpu/common/errors.ts";
import { gridOf, product } from "../attention/grid.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import type { ModelFolder } from "../checkpoint/model_folder.ts";
import { openPart, partConfig } from "../checkpoint/open_part.ts";
import type { TensorInfo, TensorSource } from "../checkpoint/tensor_source.ts";
import { openClipVisionEncoder } from "../clip/vision/encoder.ts";
import type { Conditioning, ConditionOptions, Family, FamilyModel, TransformerOptions } from "../family.ts";
import { classifierFreeGuidance, guidanceOfTwo } from "../guidance.ts";
import type { ClipPictures } from "../pictures_of_clip.ts";
import { TextPromptEncoder } from "../prompt_encoder.ts";
import { distilledScheduler, readSchedulerConfig, type SchedulerConfig } from "../schedulers/config.ts";
import { PRESETS } from "../schedulers/presets.ts";
import { UMT5_WEIGHTS } from "../umt5/block.ts";
import { openUmt5Encoder } from "../umt5/encoder.ts";
import { TinyAutoencoder } from "../taehv/autoencoder.ts";
import { isTiny } from "../taehv/decoder.ts";
import { checkLatentChannels, latentShapeOf } from "../vae/latents.ts";
import type { ClipSize } from "../video_size.ts";
import { weightsOnGpu } from "../weights/weight_dtype.ts";
import { type ImageTokens, type TransformerConfig, transformerConfig } from "./config.ts";
import { Experts } from "./experts.ts";
import { firstFrame, imageChannels, imageTokens } from "./image_conditions.ts";
import { FAST_TI2V_5B, kindOf, TEXT_TO_VIDEO, type WanKind } from "./kinds.ts";
import { GATE, looseParts, modelOf } from "./loose.ts";
import { cleanPrompt } from "./prompt.ts";
import { scheduleNotes } from "./schedule_notes.ts";
import { WanTransformer3DModel } from "./transformer.ts";
import { AutoencoderKLWan } from "./vae/autoencoder.ts";
import { readVaeConfig, type VaeConfig } from "./vae/config.ts";
import { latentRgbOf } from "./vae/latent_rgb.ts";
import { TRANSFORMER_WEIGHTS, VAE_WEIGHTS } from "./weights.ts";

/** Wan: 2.1's text to video, and its other kinds. */
export const WAN: Family = {
  name: "Wan",
  transformerClass: "WanTransformer3DModel",
  pipelineClass: "WanPipeline",
  // FastVideo's settings for its models: scripts/inference/inference_wan_VSA_DMD_*.yaml at 2f3d407.
  distilled: {
    WanDMDPipeline: { name: "FastWan", preset: PRESETS.fastwan, sparsity: 0.8, sparsityByLayers: { 40: 0.9 } },
  },
  parts: {
    transformer: { classes: ["WanTransformer3DModel"], weights: TRANSFORMER_WEIGHTS },
    vae: { classes: ["AutoencoderKLWan"], weights: VAE_WEIGHTS },
    scheduler: { classes: ["UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler"] },
    tokenizer: { optional: true, replacedBy: ["embeddings"] },
    text_encoder: {
      classes: ["UMT5EncoderModel"],
      optional: true,
      replacedBy: ["textEncoder", "embeddings"],
      weights: UMT5_WEIGHTS,
    },
  },
  models: [
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    "Wan-AI/Wan2.1-T2V-14B-Diffusers",
    "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
    "Wan-AI/Wan2.1-I2V-14B-720P-Diffusers",
    "Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers",
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers",
    "Wan-AI/Wan2.2-T2V-A14B-Diffusers",
    "Wan-AI/Wan2.2-I2V-A14B-Diffusers",
  ],
  defaults: { width: 832, height: 480, frames: 81, fps: 16, steps: 50, guidance: 5, textTokens: 512 },
  // The VAE packs 8x8 pixels and, after the first frame, 4 frames into one latent; a token has 2x2 latents.
  multiples: { side: 16, frames: 4 },
  // EasyCache was tuned with Wan: its own defaults. TeaCache: ali-vilab/TeaCache at 7c10efc.
  cacheNumbers: {
    tea: [
      {
        ...{ layers: 30, heads: 12, threshold: 0.05 },
        coefficients: [2.39676752e+03, -1.31110545e+03, 2.01331979e+02, -8.29855975e+00, 1.37887774e-01],
      },
      {
        ...{ layers: 40, heads: 40, threshold: 0.14 },
        coefficients: [-5784.54975374, 5449.50911966, -1811.16591783, 256.27178429, -13.02252404],
      },
    ],
  },
  // They used diffusers 0.33, whose timesteps differ from today's, and routes depend on the timesteps.
  routersSigmas: "wan",
  async kindOf(index, folder) {
    const name = index.value("_class_name"), isText = name === WAN.pipelineClass;
    if (Object.hasOwn(WAN.distilled!, String(name))) {
      return index.value("expand_timesteps") === true ? familyOfKind(FAST_TI2V_5B) : WAN;
    }
    if (!isText && name !== IMAGE_TO_VIDEO) return undefined;
    return familyOfKind(await kindOf(isText, index, folder));
  },
  loose: {
    get parts() {
      return looseParts(WAN.parts);
    },
    modelOf,
  },
  open: (folder) => openWan(folder, TEXT_TO_VIDEO),
};

/** The family as a kind of its models has it. */
export function familyOfKind(kind: WanKind): Family {
  const { name, defaults, parts, images, multiples = WAN.multiples, distilled = WAN.distilled! } = kind;
  return {
    ...{ ...WAN, name, multiples, distilled, ...images && { images } },
    defaults: { ...WAN.defaults, ...defaults },
    parts: { ...WAN.parts, ...parts },
    open: (folder) => openWan(folder, kind),
  };
}

const IMAGE_TO_VIDEO = "WanImageToVideoPipeline";

async function openWan(folder: ModelFolder, kind: WanKind): Promise<FamilyModel> {
  const transformerDir = await folder.component("transformer"), vaeDir = await folder.component("vae");
  const config = transformerConfig(await partConfig(transformerDir, TRANSFORMER_WEIGHTS));
  const vaeConfig = await readVaeConfig(vaeDir.file("config.json"));
  const stored = await readSchedulerConfig(
    (await folder.component("scheduler")).file("scheduler_config.json"),
    // That of the diffusers that tilereel is compared with.
    "diffusers",
    folder.className("scheduler"),
  );
  const scheduler = folder.distilled ? distilledScheduler(stored, folder.distilled.preset) : stored;
  checkLatents(folder, config, vaeConfig, kind);
  using opened = new DisposableStack();
  const weights = opened.use(await openPart(transformerDir, TRANSFORMER_WEIGHTS));
  const vae = opened.use(await openPart(vaeDir, VAE_WEIGHTS));
  const lowNoise = kind.boundary === undefined ? undefined : opened.use(await openLowNoise(folder, config));
  opened.move();
  const gated = weights.has(GATE);
  return wanModel({ folder, kind, scheduler, config: { ...config, gated }, weights, lowNoise, vaeConfig, vae });
}

/** The weights of the transformer for low noise, which is as the other. */
async function openLowNoise(folder: ModelFolder, config: TransformerConfig): Promise<TensorSource> {
  const place = await folder.component("transformer_2");
  const other = transformerConfig(await partConfig(place, TRANSFORMER_WEIGHTS));
  if (JSON.stringify(other) !== JSON.stringify(config)) {
    throw new TilereelError(
      `${place.path} is a transformer of another size or kind than ${folder.path} has for high noise; use two of one model`,
    );
  }
  return await openPart(place, TRANSFORMER_WEIGHTS);
}

/** The parts of an opened model. */
export interface WanFiles {
  readonly folder: ModelFolder;
  /** Default: text to video */
  readonly kind?: WanKind;
  readonly scheduler: SchedulerConfig;
  readonly config: TransformerConfig;
  readonly weights: TensorSource;
  /** Of the transformer for low noise. */
  readonly lowNoise?: TensorSource | undefined;
  readonly vaeConfig: VaeConfig;
  readonly vae: TensorSource;
}

/** An opened model of Wan, which takes the files over. */
export function wanModel(files: WanFiles): FamilyModel {
  const { folder, kind = TEXT_TO_VIDEO, scheduler, config, weights, lowNoise, vaeConfig, vae } = files;
  const { textDim } = config, latentShape = (clip: ClipSize) => latentShapeOf(vaeConfig, clip);
  const layout = (clip: ClipSize) => ({ grid: gridOf(latentShape(clip), config.patchSize), kept: 0 });
  const boundary = (kind.boundary ?? 0) * scheduler.numTrainTimesteps, latentRgb = latentRgbOf(vaeConfig);
  return {
    family: folder.family,
    defaults: folder.generation,
    distilled: folder.distilled,
    ...{ scheduler, shape: config, textDim, seesPadding: true, weights, latentShape, layout },
    ...latentRgb && { latentRgb },
    denoisingBytes(gpu, clip) {
      // A gate is one more, and so is attention to image tokens, or a feed-forward before the gates of frames.
      const more = [config.gated, config.images, kind.knownFrames].filter((one) => one).length;
      const tokens = product(layout(clip).grid), live = (liveTensors(gpu, config) + more) * 4 * config.dim * tokens;
      // What the other transformer has outside its blocks is there, too.
      const other = lowNoise ? weightsOnGpu(gpu, outsideBlocks(lowNoise), {}).bytes : 0;
      return OTHER_BYTES + other + live + packedKeysBytes(gpu, config, tokens);
    },
    scheduleNotes: (clip) => scheduleNotes(scheduler, clip, kind.ownShift),
    passes: (guidance, low = guidance) =>
      lowNoise ? guidanceOfTwo(guidance, low, boundary) : classifierFreeGuidance(guidance),
    async conditionOn(gpu, pictures, clip, options = {}) {
      return await conditions(gpu, files, pictures, clip, options);
    },
    async loadTransformer(gpu, options) {
      using loading = new DisposableStack();
      const load = async (source: TensorSource, options?: TransformerOptions) =>
        loading.use(await WanTransformer3DModel.load(gpu, source, config, options));
      const high = await load(weights, options), { lowNoise: own } = options ?? {};
      const low = lowNoise && await load(lowNoise, { ...options, ...own, deferred: true });
      loading.move();
      return low ? new Experts(gpu, high, low, boundary) : high;
    },
    loadVae: (gpu, part, onProgress) =>
      (isTiny(vae) ? TinyAutoencoder : AutoencoderKLWan).load(gpu, vae, vaeConfig, onProgress, [part]),
    promptEncoder: (gpu, options) =>
      new TextPromptEncoder(gpu, {
        ...{ folder, textDim, ...options },
        encoders: [{
          ...{ tokenizer: "tokenizer", encoder: "text_encoder", prepare: cleanPrompt },
          open: (gpu, folder, options) => openUmt5Encoder(gpu, folder, textDim, options),
        }],
      }),
    [Symbol.dispose]() {
      for (const source of [weights, vae, lowNoise]) source?.close();
    },
  };
}

function outsideBlocks(source: TensorSource): TensorInfo[] {
  return source.names().filter((name) => !TRANSFORMER_WEIGHTS.block!.test(name)).map((name) => source.info(name));
}

/** What the pictures of a clip add to the conditioning of each pass. */
async function conditions(
  gpu: Gpu,
  { folder, kind, config: { images }, vaeConfig, vae: source }: WanFiles,
  pictures: ClipPictures,
  clip: ClipSize,
  { weightOptions, ...options }: ConditionOptions,
): Promise<Omit<Conditioning, "text">> {
  using owned = new TensorOwner(gpu);
  let image: Tensor | undefined;
  if (images) {
    const part = "image_encoder", place = await folder.component(part);
    using encoder = await openClipVisionEncoder(gpu, place, images.dim, weightOptions?.(part));
    image = owned.adopt(await imageTokens(gpu, encoder, pictures, options));
    checkImageTokens(place.path, image.dim(1), images, encoder.config.tokens);
  }
  const Autoencoder = isTiny(source) ? TinyAutoencoder : AutoencoderKLWan;
  using vae = await Autoencoder.load(gpu, source, vaeConfig, options.onProgress, ["encoder"]);
  const made = kind?.knownFrames
    ? { frames: await firstFrame(gpu, vae, pictures.image!, clip, options) }
    : { channels: await imageChannels(gpu, vae, pictures, clip, vaeConfig, options) };
  return { ...made, ...image && { image: owned.disown(image) } };
}

/** @throws {TilereelError} if the transformer has no positions for so many tokens */
function checkImageTokens(path: string, tokens: number, { positions = tokens }: ImageTokens, ofOne: number): void {
  if (tokens === positions) return;
  throw new TilereelError(
    `${path} makes ${ofOne} tokens of a picture, but the transformer has ${positions} positions; use the image encoder ` +
      `that the transformer was trained with`,
  );
}

/** The transformer must match the VAE, and every accepted size must divide into its patches. */
function checkLatents(
  { path, family }: ModelFolder,
  transformer: TransformerConfig,
  vae: VaeConfig,
  { images, knownFrames }: WanKind,
): void {
  const { patchSize: [patchFrames, ...patch] } = transformer, { spatialScale, temporalScale, zDim } = vae;
  checkLatentChannels(path, transformer, vae, images && !knownFrames ? temporalScale + zDim : 0);
  const { side, frames } = family.multiples, cuts = patch.map((length) => length * spatialScale);
  if (patchFrames !== 1 || frames % temporalScale !== 0 || cuts.some((cut) => side % cut !== 0)) {
    throw new TilereelError(
      `${path}: patch_size ${quotedValue(transformer.patchSize)} with a VAE that packs ${temporalScale} frames of ` +
        `${spatialScale}x${spatialScale} pixels is not supported; ${family.name} has [1,2,2] with 4 frames of ` +
        `${side / 2}x${side / 2}`,
    );
  }
}
