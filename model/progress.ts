/**
 * Reports of progress to the caller.
 *
 * @module
 */

/** One report of progress. Reports of a stage start at `done: 0` and end at `done: total`. */
export interface Progress {
  /** The current stage, as it is shown to the user: "load transformer", "denoise", "decode". */
  readonly stage: string;
  /** The units that are finished. */
  readonly done: number;
  /** The units of the whole stage. */
  readonly total: number;
  /** A detail to show beside the numbers: "loss 0.82". */
  readonly detail?: string;
}

/** Receives progress. It must not throw. */
export type OnProgress = (progress: Progress) => void;
