import { printable } from "../../gpu/common/errors.ts";
import type { OnProgress } from "../../model/progress.ts";
import { showProgress } from "./progress.ts";

/** Where a command prints. Disposing of it ends the display of progress. */
export interface Output extends Disposable {
  readonly onProgress: OnProgress;
  /** Prints a line on the standard output. */
  readonly say: (line: string) => void;
  /** Prints a clause as a note on the standard error, once. */
  readonly note: (clause: string) => void;
  /** Prints a line on the standard error, whatever was asked for. */
  readonly warn: (line: string) => void;
}

/**
 * Opens the output of a command.
 *
 * @param asked `quiet`: nothing is printed but warnings; `json`: the standard output belongs to JSON
 */
export function openOutput({ quiet = false, json = false }: { quiet?: boolean; json?: boolean }): Output {
  const { onProgress, stop } = quiet ? { onProgress: () => {}, stop: () => {} } : showProgress();
  const noted = new Set<string>();
  const warn = (line: string) => {
    stop();
    console.error(printable(line));
  };
  return {
    onProgress,
    say: (line) => {
      stop();
      if (!quiet && !json) console.log(line);
    },
    note: (clause) => {
      if (!quiet && !noted.has(clause)) warn(`Note: ${clause}.`);
      noted.add(clause);
    },
    warn,
    [Symbol.dispose]: stop,
  };
}
