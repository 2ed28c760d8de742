/**
 * How long work tells the caller where it stands.
 *
 * @module
 */

/** One report of progress. Reports of a stage start at `done: 0` and end at `done: total`. */
export interface Progress {
  /** What is being done, as it is shown to the user: "load transformer", "denoise", "decode". */
  readonly stage: string;
  /** Units finished so far. */
  readonly done: number;
  /** Units in the whole stage. */
  readonly total: number;
  /** More to show beside the numbers: "loss 0.82". */
  readonly detail?: string;
}

/** Receives progress; must not throw. */
export type OnProgress = (progress: Progress) => void;
