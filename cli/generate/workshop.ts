import type { Gpu } from "../../gpu/gpu.ts";
import type { LoadOptions, VideoPipeline } from "../../model/pipeline.ts";
import type { OnProgress } from "../../model/progress.ts";
import { openGpuAsAsked } from "../../tools/program/gpu_options.ts";
import { loadPipeline, type modelOptions } from "../../tools/program/model_options.ts";
import type { OptionValues } from "../../tools/program/options.ts";
import { type RunningProfile, startProfile } from "../../tools/program/profile.ts";

/** The options that a model is opened with, to plan clips for it and to make them. */
export interface WorkshopValues extends OptionValues<typeof modelOptions> {
  readonly embeddings?: string;
  readonly latents?: string;
  readonly profile?: string;
}

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
  values: WorkshopValues,
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

/** A workshop for many clips: it is opened for the first, and once more after its GPU was lost. */
export class LastingWorkshop implements Disposable {
  #current: Workshop | undefined;

  /** @param openNew opens a workshop, by {@link openWorkshop} */
  constructor(private readonly openNew: () => Promise<Workshop>) {}

  get current(): Workshop | undefined {
    return this.#current;
  }

  /** @throws {TilereelError} if it cannot be opened */
  async open(): Promise<Workshop> {
    return this.#current ??= await this.openNew();
  }

  /** After a clip failed: the next one has a working GPU. One whose profile is taken is never replaced. */
  async recover(): Promise<void> {
    // A lost GPU cannot be used again.
    if (!this.#current || await this.#current.gpu.recover() || this.#current.profile) return;
    this.#current[Symbol.dispose]();
    this.#current = undefined;
  }

  [Symbol.dispose](): void {
    this.#current?.[Symbol.dispose]();
  }
}
