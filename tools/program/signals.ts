/**
 * Ctrl-C, the signal to terminate, and a closed terminal. They end the program at once; but during work that can be
 * saved, the first signal ends the work and the second ends the program.
 *
 * @module
 */
import { ignoreClosedTerminal } from "./closed_terminal.ts";
import { removeUnfinished } from "../../gpu/native/replace_file.ts";

/** Exit statuses, as shells have them. */
const STATUSES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

let working: Interruption | undefined;
let farewell: Farewell | undefined;

/** Handles the signals from now on, as the module describes. */
export function handleSignals(): void {
  ignoreClosedTerminal();
  for (const [signal, status] of Object.entries(STATUSES) as [keyof typeof STATUSES, number][]) {
    if (signal !== "SIGINT" && Deno.build.os === "windows") continue;
    Deno.addSignalListener(signal, () => {
      if (working && working.status === undefined) return working.interrupt(status);
      removeUnfinished();
      farewell?.say();
      Deno.exit(status);
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

/** A message to print when a signal ends the program, until this is disposed of. */
export class Farewell implements Disposable {
  constructor(readonly say: () => void) {
    farewell = this;
  }

  [Symbol.dispose](): void {
    if (farewell === this) farewell = undefined;
  }
}
