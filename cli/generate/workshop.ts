/**
 * A GPU with a loaded model on it.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { LoadOptions, VideoPipeline } from "../../model/pipeline.ts";
import type { OnProgress } from "../../model/progress.ts";
import type { GenerateValues } from "../commands/generate.ts";
import { openGpuAsAsked } from "../../tools/program/gpu_options.ts";
import { loadPipeline } from "../../tools/program/model_options.ts";
import { type RunningProfile, startProfile } from "../../tools/program/profile.ts";

/** A GPU and the pipeline that is loaded on it. Disposing of it frees both. */
export interface Workshop extends Disposable {
  readonly gpu: Gpu;
  readonly pipeline: VideoPipeline;
  readonly profile: RunningProfile | undefined;
}

/**
 * Opens the GPU and loads the model.
 *
 * @param clips to come, if they are known: see {@link LoadOptions.clips}
 * @param signal ends loading
 * @throws {TilereelError} if there is no such adapter, or the model cannot be loaded
 * @throws the signal's reason, if it is aborted
 */
export async function openWorkshop(
  values: GenerateValues,
  clips: LoadOptions["clips"],
  onProgress: OnProgress,
  signal?: AbortSignal,
): Promise<Workshop> {
  using cleanUp = new DisposableStack();
  const gpu = await openGpuAsAsked(values, onProgress, { brief: values.model === undefined });
  cleanUp.defer(() => gpu.close());
  const profile = values.profile === undefined ? undefined : cleanUp.use(await startProfile(gpu, values.profile));
  const pipeline = await loadPipeline(values, { gpu, clips, onProgress, signal });
  cleanUp.defer(() => pipeline.close());
  const held = cleanUp.move();
  return { gpu, pipeline, profile, [Symbol.dispose]: () => held.dispose() };
}
