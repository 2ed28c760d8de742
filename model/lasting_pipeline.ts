import type { Gpu } from "../gpu/gpu.ts";
import type { VideoPipeline } from "./pipeline.ts";
import type { OnProgress } from "./progress.ts";

/** A GPU and the pipeline that is loaded on it. Disposing of it frees both. */
export interface OpenPipeline extends Disposable {
  readonly gpu: Gpu;
  readonly pipeline: VideoPipeline;
}

/** Options of opening an {@link OpenPipeline}. */
export interface OpenOptions {
  readonly onProgress: OnProgress;
  /** Told in a clause what may disappoint. */
  readonly onNote?: ((note: string) => void) | undefined;
  /** Ends loading. */
  readonly signal?: AbortSignal | undefined;
}

/** A pipeline for many clips. It is opened for the first clip, and opened again for the first clip after a lost GPU. */
export class LastingPipeline<T extends Pick<OpenPipeline, "gpu"> & Disposable = OpenPipeline> implements Disposable {
  #current: T | undefined;

  /** @param openNew opens the GPU and loads the model */
  constructor(private readonly openNew: (options: OpenOptions) => Promise<T>) {}

  get current(): T | undefined {
    return this.#current;
  }

  /**
   * The open pipeline, or a new one.
   *
   * @param options of the clip that it is needed for, if it must be opened
   * @throws as `openNew` does
   */
  async open(options: OpenOptions): Promise<T> {
    return this.#current ??= await this.openNew(options);
  }

  /** Call this after a clip failed. If the GPU was lost, the pipeline is closed, and {@link open} makes a new one. */
  async recover(): Promise<void> {
    // A lost GPU cannot be used again.
    if (this.#current && !await this.#current.gpu.recover()) this.close();
  }

  /** Frees the open pipeline, as for another model. {@link open} makes a new one. */
  close(): void {
    this.#current?.[Symbol.dispose]();
    this.#current = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
