/**
 * Output to a closed terminal fails, at once or later. That must not end work whose results can still be saved.
 *
 * @module
 */
import process from "node:process";

/** Discards all further output to a closed terminal. */
export function ignoreClosedTerminal(): void {
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
