import process from "node:process";
import { removeUnfinished } from "../../gpu/native/replace_file.ts";

/** Exit statuses, as shells have them. */
const STATUSES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

let working: Interruption | undefined;
let farewell: Farewell | undefined;

/**
 * From now on, Ctrl-C, the signal to terminate, and a closed terminal end the program at once; but during work that can
 * be saved, the first signal ends the work and the second ends the program.
 *
 * @param exit ends the program
 */
export function handleSignals(exit: (status: number) => never = Deno.exit): void {
  ignoreClosedTerminal();
  for (const [signal, status] of Object.entries(STATUSES) as [keyof typeof STATUSES, number][]) {
    if (signal !== "SIGINT" && Deno.build.os === "windows") continue;
    Deno.addSignalListener(signal, () => {
      if (working && working.status === undefined) return working.interrupt(status);
      removeUnfinished();
      farewell?.say();
      exit(status);
    });
  }
}

/** Work that the first signal asks to end. It lasts until this is disposed of. */
export class Interruption implements Disposable {
  readonly #controller = new AbortController();
  #status: number | undefined;

  constructor() {
    working = this;
  }

  /** Is aborted when the work should end. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The exit status if a signal came; undefined if none did. */
  get status(): number | undefined {
    return this.#status;
  }

  /** The action on the signal. */
  interrupt(status: number): void {
    this.#status = status;
    this.#controller.abort();
  }

  [Symbol.dispose](): void {
    if (working === this) working = undefined;
  }
}

/**
 * What is said or done when a signal ends the program, until this is disposed of. It cannot wait. A program with a worker
 * terminates it here, and calls `removeUnfinishedIn` for the folder that the worker writes into.
 */
export class Farewell implements Disposable {
  constructor(readonly say: () => void) {
    farewell = this;
  }

  [Symbol.dispose](): void {
    if (farewell === this) farewell = undefined;
  }
}

/** Discards all output to a closed terminal: an error, at once or later, must not end work that can still be saved. */
function ignoreClosedTerminal(): void {
  for (const name of ["log", "error"] as const) console[name] = unlessClosed(console[name].bind(console), undefined);
  // Progress, which is written to the stream, fails later.
  process.stderr.on("error", (error) => {
    if (!isClosed(error)) throw error;
  });
}

/** The function, which gives `nothing` when it fails because the terminal is closed. */
export function unlessClosed<A extends unknown[], R>(write: (...args: A) => R, nothing: R): (...args: A) => R {
  return (...args) => {
    try {
      return write(...args);
    } catch (error) {
      if (!isClosed(error)) throw error;
      return nothing;
    }
  };
}

function isClosed(error: unknown): boolean {
  return /\(os error 5\)|\bEIO\b|write EPIPE/.test(String(error));
}
