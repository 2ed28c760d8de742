/**
 * What every reader of clips gives: pictures in order, each with the time that it is shown.
 *
 * @module
 */

/** One picture of a clip. */
export interface TimedPicture {
  /** Seconds from the beginning of the clip to the moment at which this picture gives way to the next. */
  readonly end: number;
  readonly width: number;
  readonly height: number;
  /** The samples [height, width, 3], worked out when asked for; good until the next picture is asked for. */
  rgb(): Uint8Array;
}

/** A clip's pictures. Files and programs behind them are closed when the loop over them ends, however it ends. */
export type Pictures = AsyncIterable<TimedPicture>;
