/**
 * What commands with long work share: a GPU, progress, and an orderly end on Ctrl-C.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { Precision } from "../../gpu/precision.ts";
import type { OnProgress } from "../../model/progress.ts";
import { type GpuValues, openGpuAsAsked } from "./gpu_options.ts";
import { showProgress } from "./progress.ts";
import { Interruption } from "./signals.ts";

/** What {@link openLongRun} takes. */
export interface LongRunOptions {
  /** Prints nothing but errors. */
  readonly quiet: boolean;
  /** The options of the GPU and the model. */
  readonly values: Omit<GpuValues, "precision"> & { readonly model?: string | undefined };
  /** Default: f32. Gradients may be too small for f16, and measurements for training must match. */
  readonly precision?: Precision | "auto";
  /** Printed when the first signal comes. */
  readonly stopping: string;
}

/** Long work, until it is disposed of. */
export interface LongRun extends Disposable {
  readonly gpu: Gpu;
  readonly onProgress: OnProgress;
  /** Prints a line. */
  readonly say: (line: string) => void;
  /** Prints a clause as a note on the standard error, once. */
  readonly note: (clause: string) => void;
  /** Is aborted when the work should end. */
  readonly signal: AbortSignal;
  /** The exit status if a signal came; undefined if none did. */
  readonly status: number | undefined;
}

/**
 * Opens the GPU and the display of progress, and lets signals end the work in order.
 *
 * @throws {TilereelError} if there is no such adapter
 */
export async function openLongRun(options: LongRunOptions): Promise<LongRun> {
  const { quiet, values, precision = "f32", stopping } = options;
  using cleanUp = new DisposableStack();
  const progress = quiet ? { onProgress: () => {}, stop: () => {} } : showProgress();
  cleanUp.defer(() => progress.stop());
  const gpu = await openGpuAsAsked({ ...values, precision }, progress.onProgress, {
    brief: values.model === undefined,
  });
  cleanUp.defer(() => gpu.close());
  const interruption = cleanUp.use(new Interruption());
  interruption.signal.addEventListener("abort", () => {
    progress.stop();
    if (!quiet) console.error(stopping);
  });
  const owned = cleanUp.move(), noted = new Set<string>();
  return {
    gpu,
    onProgress: progress.onProgress,
    say: (line) => {
      progress.stop();
      if (!quiet) console.log(line);
    },
    note: (clause) => {
      progress.stop();
      if (!quiet && !noted.has(clause)) console.error(`Note: ${clause}.`);
      noted.add(clause);
    },
    signal: interruption.signal,
    get status() {
      return interruption.status;
    },
    [Symbol.dispose]: () => owned.dispose(),
  };
}
