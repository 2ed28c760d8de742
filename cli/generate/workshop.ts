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

/** Options of opening a {@link Workshop}. */
export interface OpenOptions {
  readonly onProgress: OnProgress;
  /** Ends loading. */
  readonly signal?: AbortSignal;
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
  { onProgress, signal }: OpenOptions,
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

/** A workshop for many clips. It is opened for the first clip, and opened again for the first clip after a lost GPU. */
export class LastingWorkshop implements Disposable {
  #current: Workshop | undefined;

  /** @param openNew opens a workshop, by {@link openWorkshop} */
  constructor(private readonly openNew: (options: OpenOptions) => Promise<Workshop>) {}

  get current(): Workshop | undefined {
    return this.#current;
  }

  /**
   * The open workshop, or a new one.
   *
   * @param options of the clip that it is needed for, if it must be opened
   * @throws as {@link openWorkshop} does
   */
  async open(options: OpenOptions): Promise<Workshop> {
    return this.#current ??= await this.openNew(options);
  }

  /**
   * Call this after a clip failed. If the GPU was lost, the workshop is closed, and {@link open} makes a new one. A
   * workshop with a profile stays, because its profile would be lost; its next clip fails, too.
   */
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
