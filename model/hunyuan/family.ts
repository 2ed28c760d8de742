import { liveTensors, OTHER_BYTES } from "../blocks/live_tensors.ts";
import { packedKeysBytes } from "../attention/head_groups.ts";
import { quotedValue, TilereelError } from "../../gpu/common/errors.ts";
import { gridOf, product } from "../attention/grid.ts";
import type { ModelFolder } from "../checkpoint/model_folder.ts";
import { openPart, partConfig } from "../checkpoint/open_part.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import { CLIP_TEXT_WEIGHTS } from "../clip/text/weights.ts";
import type { Family, FamilyModel } from "../family.ts";
import { classifierFreeGuidance, embeddedGuidance } from "../guidance.ts";
import { LLAMA_WEIGHTS } from "../llama/block.ts";
import { TextPromptEncoder } from "../prompt_encoder.ts";
import { readSchedulerConfig, type SchedulerConfig } from "../schedulers/config.ts";
import { checkLatentChannels, latentShapeOf } from "../vae/latents.ts";
import type { ClipSize } from "../video_size.ts";
import { type TransformerConfig, transformerConfig } from "./config.ts";
import { modelOf } from "./loose.ts";
import { hunyuanEncoders } from "./prompt.ts";
import { HunyuanVideoTransformer3DModel } from "./transformer.ts";
import { AutoencoderKLHunyuanVideo } from "./vae/autoencoder.ts";
import { readVaeConfig, type VaeConfig } from "./vae/config.ts";
import { HUNYUAN_RGB } from "./vae/latent_rgb.ts";
import { TRANSFORMER_WEIGHTS, VAE_WEIGHTS } from "./weights.ts";

const TEXT = { optional: true, replacedBy: ["textEncoder", "embeddings"] } as const;

/** HunyuanVideo's text to video as a family of models. */
export const HUNYUAN: Family = {
  name: "HunyuanVideo",
  transformerClass: "HunyuanVideoTransformer3DModel",
  pipelineClass: "HunyuanVideoPipeline",
  parts: {
    transformer: { classes: ["HunyuanVideoTransformer3DModel"], weights: TRANSFORMER_WEIGHTS },
    vae: { classes: ["AutoencoderKLHunyuanVideo"], weights: VAE_WEIGHTS },
    scheduler: { classes: ["FlowMatchEulerDiscreteScheduler"] },
    tokenizer: { optional: true, replacedBy: ["embeddings"] },
    text_encoder: { classes: ["LlamaModel"], ...TEXT, weights: LLAMA_WEIGHTS },
    tokenizer_2: { optional: true, replacedBy: ["embeddings"] },
    text_encoder_2: {
      classes: ["CLIPTextModel"],
      optional: true,
      replacedBy: ["embeddings"],
      weights: CLIP_TEXT_WEIGHTS,
    },
  },
  models: ["hunyuanvideo-community/HunyuanVideo"],
  defaults: { width: 1280, height: 720, frames: 129, fps: 24, steps: 50, guidance: 6, textTokens: 256 },
  // The VAE packs 8x8 pixels and, after the first frame, 4 frames into one latent; a token has 2x2 latents.
  multiples: { side: 16, frames: 4 },
  // TeaCache: ali-vilab/TeaCache at 7c10efc.
  cacheNumbers: {
    easy: { threshold: 0.025, first: 5 },
    tea: [{
      ...{ layers: 60, heads: 24, threshold: 0.1 },
      coefficients: [7.33226126e+02, -4.01131952e+02, 6.75869174e+01, -3.14987800e+00, 9.61237896e-02],
    }],
  },
  loose: {
    get parts() {
      return HUNYUAN.parts;
    },
    modelOf,
  },
  async open(folder) {
    const transformerDir = await folder.component("transformer"), vaeDir = await folder.component("vae");
    const config = transformerConfig(await partConfig(transformerDir, TRANSFORMER_WEIGHTS));
    const vaeConfig = await readVaeConfig(vaeDir.file("config.json"));
    const scheduler = await readSchedulerConfig(
      (await folder.component("scheduler")).file("scheduler_config.json"),
      "hunyuan",
      folder.className("scheduler"),
    );
    checkLatents(folder.path, config, vaeConfig);
    using opened = new DisposableStack();
    const weights = opened.use(await openPart(transformerDir, TRANSFORMER_WEIGHTS));
    const vae = opened.use(await openPart(vaeDir, VAE_WEIGHTS));
    opened.move();
    return hunyuanModel({ folder, scheduler, config, weights, vaeConfig, vae });
  },
};

/** The parts of an opened model. */
export interface HunyuanFiles {
  readonly folder: ModelFolder;
  readonly scheduler: SchedulerConfig;
  readonly config: TransformerConfig;
  readonly weights: TensorSource;
  readonly vaeConfig: VaeConfig;
  readonly vae: TensorSource;
}

/** An opened model of HunyuanVideo, which takes the files over. */
export function hunyuanModel({ folder, scheduler, config, weights, vaeConfig, vae }: HunyuanFiles): FamilyModel {
  const { dim, ffnDim, textDim, pooledDim, guidanceEmbeds } = config, { textTokens } = folder.generation;
  const latentShape = (clip: ClipSize) => latentShapeOf(vaeConfig, clip);
  const layout = (clip: ClipSize) => ({ grid: gridOf(latentShape(clip), config.patchSize), kept: textTokens });
  return {
    family: HUNYUAN,
    defaults: folder.generation,
    ...{ scheduler, shape: config, textDim, pooledDim, weights, latentShape, layout },
    ...vaeConfig.zDim === HUNYUAN_RGB.factors.length && { latentRgb: HUNYUAN_RGB },
    denoisingBytes(gpu, clip) {
      const { grid, kept } = layout(clip), tokens = product(grid) + kept;
      // A single-stream block copies the two parts of the weight of its output, and matrix units need matrices packed.
      const live = liveTensors(gpu, config) * tokens + dim + 2 * ffnDim;
      return OTHER_BYTES + 4 * dim * live + packedKeysBytes(gpu, config, tokens);
    },
    scheduleNotes: () => [],
    passes: guidanceEmbeds ? embeddedGuidance : classifierFreeGuidance,
    loadTransformer: (gpu, options) => HunyuanVideoTransformer3DModel.load(gpu, weights, config, options),
    loadVae: (gpu, part, onProgress) => AutoencoderKLHunyuanVideo.load(gpu, vae, vaeConfig, onProgress, [part]),
    promptEncoder: (gpu, options) =>
      new TextPromptEncoder(gpu, { ...{ folder, textDim, ...options }, encoders: hunyuanEncoders(config) }),
    [Symbol.dispose]() {
      weights.close();
      vae.close();
    },
  };
}

/** The transformer must take the autoencoder's latents, and every accepted size must divide into its patches. */
function checkLatents(path: string, transformer: TransformerConfig, vae: VaeConfig): void {
  checkLatentChannels(path, transformer, vae);
  const { patchSize } = transformer, [frames, ...sides] = patchSize;
  if (frames !== 1 || sides.some((side) => HUNYUAN.multiples.side % (side * vae.spatialScale) !== 0)) {
    throw new TilereelError(
      `${path}: patches of ${quotedValue(patchSize)} latents are not supported; HunyuanVideo has [1,2,2]`,
    );
  }
}
