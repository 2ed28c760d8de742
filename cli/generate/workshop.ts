import type { OpenOptions, OpenPipeline } from "../../model/lasting_pipeline.ts";
import type { LoadOptions } from "../../model/pipeline.ts";
import { openGpuAsAsked } from "../../tools/program/gpu_options.ts";
import { loadPipeline, type modelOptions } from "../../tools/program/model_options.ts";
import type { OptionValues } from "../../tools/program/options.ts";
import { type RunningProfile, startProfile } from "../../tools/program/profile.ts";

/** The options that a model is opened with, to plan clips for it and to make them. */
export interface WorkshopValues extends OptionValues<typeof modelOptions> {
  readonly embeddings?: string;
  readonly latents?: string;
  /** --preview-vae */
  readonly "preview-vae"?: string;
  readonly profile?: string;
}

/** An open pipeline, and the profile that is measured on its GPU, if one was asked for. */
export interface Workshop extends OpenPipeline {
  readonly profile: RunningProfile | undefined;
}

/**
 * Opens the GPU and loads the model.
 *
 * @param clips to come, or the largest one that may come: see {@link LoadOptions.clips}
 * @throws {TilereelError} if there is no such adapter, or the model cannot be loaded
 * @throws the signal's reason, if it is aborted
 */
export async function openWorkshop(
  values: WorkshopValues,
  clips: LoadOptions["clips"],
  { onProgress, onNote, signal }: OpenOptions,
): Promise<Workshop> {
  using cleanUp = new DisposableStack();
  const gpu = await openGpuAsAsked(values);
  cleanUp.defer(() => gpu.close());
  const profile = values.profile === undefined ? undefined : cleanUp.use(await startProfile(gpu, values.profile));
  const pipeline = await loadPipeline(values, {
    gpu,
    clips,
    onProgress,
    onNote,
    signal,
    previewVae: values["preview-vae"],
  });
  cleanUp.defer(() => pipeline.close());
  const held = cleanUp.move();
  return { gpu, pipeline, profile, [Symbol.dispose]: () => held.dispose() };
}
