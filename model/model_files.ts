/**
 * Opens and checks the files of a model before anything is loaded.
 *
 * @module
 */
import { TilereelError } from "../gpu/common/errors.ts";
import { type ModelFolder, openModelFolder } from "./checkpoint/model_folder.ts";
import { openCheckpoint } from "./checkpoint/sharded.ts";
import type { TensorSource } from "./checkpoint/tensor_source.ts";
import type { FileStore } from "./files/store.ts";
import { readSchedulerConfig, type SchedulerConfig } from "./schedulers/config.ts";
import { readVaeConfig, type VaeConfig } from "./wan/vae/config.ts";
import { FRAME_MULTIPLE, SIZE_MULTIPLE } from "./video_size.ts";
import { readTransformerConfig, type TransformerConfig } from "./wan/config.ts";

/** Configurations, and weights whose headers were read. */
export interface ModelFiles {
  readonly folder: ModelFolder;
  readonly scheduler: SchedulerConfig;
  readonly transformerConfig: TransformerConfig;
  readonly transformer: TensorSource;
  readonly vaeConfig: VaeConfig;
  readonly vae: TensorSource;
}

/**
 * Opens a model folder in the diffusers layout. The text encoder's files are opened when a prompt is encoded.
 *
 * @throws {TilereelError} if the folder holds no model that can be run, or a file is damaged
 */
export async function openModelFiles(place: string | FileStore): Promise<ModelFiles> {
  const folder = await openModelFolder(place);
  const transformerDir = await folder.component("transformer"), vaeDir = await folder.component("vae");
  const transformerConfig = await readTransformerConfig(transformerDir.file("config.json"));
  const vaeConfig = await readVaeConfig(vaeDir.file("config.json"));
  const scheduler = await readSchedulerConfig(
    (await folder.component("scheduler")).file("scheduler_config.json"),
    folder.className("scheduler"),
  );
  checkLatents(folder.path, transformerConfig, vaeConfig);
  using opened = new DisposableStack();
  const transformer = opened.use(await openCheckpoint(transformerDir, "diffusion_pytorch_model"));
  const vae = opened.use(await openCheckpoint(vaeDir, "diffusion_pytorch_model"));
  opened.move();
  return { folder, scheduler, transformerConfig, transformer, vaeConfig, vae };
}

/** The transformer must match the VAE, and every accepted size must divide into its patches. */
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
