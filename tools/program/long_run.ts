/**
 * What commands share that work for long and can be broken off: a GPU, progress, and Ctrl-C that only asks to end.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { OnProgress } from "../../model/progress.ts";
import { type GpuValues, openGpuAsAsked } from "./gpu_options.ts";
import { showProgress } from "./progress.ts";
import { Interruption } from "./signals.ts";

/** What {@link openLongRun} takes. */
export interface LongRunOptions {
  /** Prints nothing but errors. */
  readonly quiet: boolean;
  /** As `--gpu`, `--tuning`, `--memory` and `--model` say. */
  readonly values: Omit<GpuValues, "precision"> & { readonly model?: string | undefined };
  /** Said when the first signal comes. */
  readonly stopping: string;
}

/** Long work, until it is disposed of. */
export interface LongRun extends Disposable {
  readonly gpu: Gpu;
  readonly onProgress: OnProgress;
  /** Prints a line. */
  readonly say: (line: string) => void;
  /** Is aborted when the work should end. */
  readonly signal: AbortSignal;
  /** The exit status if a signal came; undefined if none did. */
  readonly status: number | undefined;
}

/**
 * Opens the GPU, the display, and has signals ask the work to end.
 *
 * @throws {TilereelError} if there is no such adapter
 */
export async function openLongRun({ quiet, values, stopping }: LongRunOptions): Promise<LongRun> {
  using cleanUp = new DisposableStack();
  const progress = quiet ? { onProgress: () => {}, stop: () => {} } : showProgress();
  cleanUp.defer(() => progress.stop());
  // Gradients may be too small for f16, and measurements for training must match.
  const gpu = await openGpuAsAsked({ ...values, precision: "f32" }, progress.onProgress, {
    brief: values.model === undefined,
  });
  cleanUp.defer(() => gpu.close());
  const interruption = cleanUp.use(new Interruption());
  interruption.signal.addEventListener("abort", () => {
    progress.stop();
    if (!quiet) console.error(stopping);
  });
  const owned = cleanUp.move();
  return {
    gpu,
    onProgress: progress.onProgress,
    say: (line) => {
      progress.stop();
      if (!quiet) console.log(line);
    },
    signal: interruption.signal,
    get status() {
      return interruption.status;
    },
    [Symbol.dispose]: () => owned.dispose(),
  };
}

/** This run's command line, as it would be typed again. */
export function commandLine(resume: boolean): string {
  const args = Deno.args.filter((arg) => arg !== "--resume");
  return ["tilereel", ...args.map(shellQuoted), ...resume ? ["--resume"] : []].join(" ");
}

/** A word as shells take it. Control characters, which could change what a terminal shows, are escaped. */
export function shellQuoted(word: string): string {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  if (!/\p{Cc}/u.test(word)) return `'${word.replaceAll("'", `'\\''`)}'`;
  const escaped = word.replace(/[\\']/g, "\\$&")
    .replace(/\p{Cc}/gu, (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return `$'${escaped}'`;
}
