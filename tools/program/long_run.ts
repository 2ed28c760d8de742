import type { Gpu } from "../../gpu/gpu.ts";
import type { Precision } from "../../gpu/precision.ts";
import { type GpuValues, openGpuAsAsked } from "./gpu_options.ts";
import { openOutput, type Output } from "./output.ts";
import { Interruption } from "./signals.ts";

/** Options of {@link openLongRun}. */
export interface LongRunOptions {
  /** Prints nothing but errors. */
  readonly quiet: boolean;
  /** The options of the GPU and the model. */
  readonly values: Omit<GpuValues, "precision">;
  /** Default: f32, so that measurements match on all adapters. */
  readonly precision?: Precision | "auto";
  /** Printed when the first signal comes. */
  readonly stopping: string;
}

/** Long work, until it is disposed of. */
export interface LongRun extends Output {
  readonly gpu: Gpu;
  /** Is aborted when the work should end. */
  readonly signal: AbortSignal;
  /** The exit status if a signal came; undefined if none did. */
  readonly status: number | undefined;
  /** The result of work; undefined if a signal ended it. */
  readonly unlessStopped: <T>(work: Promise<T>) => Promise<T | undefined>;
}

/**
 * Opens what commands with long work share: the GPU, the display of progress, and an orderly end on Ctrl-C.
 *
 * @throws {TilereelError} if there is no such adapter
 */
export async function openLongRun(
  { quiet, values, precision = "f32", stopping }: LongRunOptions,
): Promise<LongRun> {
  using cleanUp = new DisposableStack();
  const output = cleanUp.use(openOutput({ quiet }));
  const gpu = await openGpuAsAsked({ ...values, precision });
  cleanUp.defer(() => gpu.close());
  const interruption = cleanUp.use(new Interruption());
  interruption.signal.addEventListener("abort", () => quiet || output.warn(stopping));
  const owned = cleanUp.move();
  return {
    ...output,
    gpu,
    signal: interruption.signal,
    get status() {
      return interruption.status;
    },
    unlessStopped: (work) =>
      work.catch((error) => {
        if (interruption.status === undefined || error !== interruption.signal.reason) throw error;
        return undefined;
      }),
    [Symbol.dispose]: () => owned.dispose(),
  };
}
