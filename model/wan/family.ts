import { TilereelError } from "../../gpu/common/errors.ts";
import { gridOf, product } from "../attention/grid.ts";
import type { FileStore } from "../files/store.ts";
import { Config } from "../checkpoint/json.ts";
import type { ModelFolder } from "../checkpoint/model_folder.ts";
import { openPart, partConfig } from "../checkpoint/open_part.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import type { Family, FamilyModel } from "../family.ts";
import { classifierFreeGuidance } from "../guidance.ts";
import { TextPromptEncoder } from "../prompt_encoder.ts";
import { distilledScheduler, readSchedulerConfig, type SchedulerConfig } from "../schedulers/config.ts";
import { PRESETS } from "../schedulers/presets.ts";
import { UMT5_WEIGHTS } from "../umt5/block.ts";
import { openUmt5Encoder } from "../umt5/encoder.ts";
import { checkLatentChannels, latentShapeOf } from "../vae/latents.ts";
import type { ClipSize } from "../video_size.ts";
import { type TransformerConfig, transformerConfig } from "./config.ts";
import { cleanPrompt } from "./prompt.ts";
import { scheduleNotes } from "./schedule_notes.ts";
import { WanTransformer3DModel } from "./transformer.ts";
import { AutoencoderKLWan } from "./vae/autoencoder.ts";
import { readVaeConfig, type VaeConfig } from "./vae/config.ts";
import { TRANSFORMER_WEIGHTS, VAE_WEIGHTS } from "./weights.ts";

/** Wan 2.1's text to video. */
export const WAN: Family = {
  name: "Wan 2.1",
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
  models: ["Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "Wan-AI/Wan2.1-T2V-14B-Diffusers"],
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
  unsupportedKind,
  async open(folder) {
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
    checkLatents(folder.path, config, vaeConfig);
    using opened = new DisposableStack();
    const weights = opened.use(await openPart(transformerDir, TRANSFORMER_WEIGHTS));
    const vae = opened.use(await openPart(vaeDir, VAE_WEIGHTS));
    opened.move();
    const gated = weights.has(GATE);
    return wanModel({ folder, scheduler, config: { ...config, gated }, weights, vaeConfig, vae });
  },
};

/** In models that have gates, each block has one. */
const GATE = "blocks.0.attn1.to_gate_compress.weight";

/** The parts of an opened model. */
export interface WanFiles {
  readonly folder: ModelFolder;
  readonly scheduler: SchedulerConfig;
  readonly config: TransformerConfig;
  readonly weights: TensorSource;
  readonly vaeConfig: VaeConfig;
  readonly vae: TensorSource;
}

/**
 * The number of tensors of the tokens' size that a denoising step holds at once: five in a block (see `runBlock`), and
 * more for sparse attention, the angles of RoPE, and latents. In f16, attention packs keys and values, and matrix units
 * need all operands packed.
 */
const LIVE_TENSORS = { f32: 6.5, f16: 7, matrixUnits: 7.5 };

/** An opened model of Wan 2.1, which takes the files over. */
export function wanModel({ folder, scheduler, config, weights, vaeConfig, vae }: WanFiles): FamilyModel {
  const { textDim } = config, latentShape = (clip: ClipSize) => latentShapeOf(vaeConfig, clip);
  const layout = (clip: ClipSize) => ({ grid: gridOf(latentShape(clip), config.patchSize), kept: 0 });
  return {
    family: WAN,
    defaults: folder.generation,
    distilled: folder.distilled,
    ...{ scheduler, shape: config, textDim, weights, latentShape, layout },
    denoisingBytes(gpu, clip) {
      const live = LIVE_TENSORS[gpu.matrixUnits ? "matrixUnits" : gpu.settings.precision] + (config.gated ? 1 : 0);
      return live * 4 * config.dim * product(layout(clip).grid);
    },
    scheduleNotes: (clip) => scheduleNotes(scheduler, clip),
    passes: classifierFreeGuidance,
    loadTransformer: (gpu, options) => WanTransformer3DModel.load(gpu, weights, config, options),
    loadVae: (gpu, part, onProgress) => AutoencoderKLWan.load(gpu, vae, vaeConfig, onProgress, [part]),
    promptEncoder: (gpu, options) =>
      new TextPromptEncoder(gpu, {
        ...{ folder, textDim, ...options },
        encoders: [{
          ...{ tokenizer: "tokenizer", encoder: "text_encoder", prepare: cleanPrompt },
          open: (gpu, folder, options) => openUmt5Encoder(gpu, folder, textDim, options),
        }],
      }),
    [Symbol.dispose]() {
      weights.close();
      vae.close();
    },
  };
}

/** The transformer must match the VAE, and every accepted size must divide into its patches. */
function checkLatents(dir: string, transformer: TransformerConfig, vae: VaeConfig): void {
  checkLatentChannels(dir, transformer, vae);
  const { patchSize: [patchFrames, ...patch] } = transformer, { spatialScale, temporalScale } = vae;
  const { side, frames } = WAN.multiples, cuts = patch.map((length) => length * spatialScale);
  if (patchFrames !== 1 || frames % temporalScale !== 0 || cuts.some((cut) => side % cut !== 0)) {
    throw new TilereelError(
      `${dir}: patch_size ${JSON.stringify(transformer.patchSize)} with a VAE that packs ${temporalScale} frames of ` +
        `${spatialScale}x${spatialScale} pixels is not supported; Wan 2.1 has [1,2,2] with 4 frames of 8x8`,
    );
  }
}

async function unsupportedKind(index: Config, folder: FileStore): Promise<string | undefined> {
  const name = index.value("_class_name");
  const twoTransformers = isPart(index.value("transformer_2"));
  // Wan 2.2's 5B has one timestep per token.
  const expands = index.value("expand_timesteps") === true;
  if (name === WAN.pipelineClass || Object.hasOwn(WAN.distilled!, String(name))) {
    if (twoTransformers || !index.isNull("boundary_ratio")) return "Wan 2.2 T2V A14B, which has two transformers";
    return expands ? "Wan 2.2 TI2V 5B" : undefined;
  }
  if (name === "WanImageToVideoPipeline") {
    if (twoTransformers) return "Wan 2.2 I2V A14B (image to video), which has two transformers";
    if (expands) return "Wan 2.2 TI2V 5B";
    return await takesTwoImages(folder)
      ? "Wan 2.1 FLF2V 14B (first and last frame to video)"
      : "Wan 2.1 I2V (image to video)";
  }
}

/** Two images have 514 positions; a transformer for one image has no positions of its own. */
async function takesTwoImages(folder: FileStore): Promise<boolean> {
  const file = folder.file("transformer/config.json");
  return await file.kind() !== undefined && !(await Config.read(file)).isNull("pos_embed_seq_len");
}

/** Parts are [library, class]; [null, null] if the model has no such part. */
function isPart(entry: unknown): boolean {
  return Array.isArray(entry) ? entry[1] !== null : entry !== undefined && entry !== null;
}
