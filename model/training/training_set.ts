/**
 * Where training takes its samples from.
 *
 * @module
 */

/** One clean sample and the text that belongs to it. */
export interface TrainingSample {
  /** The clip's latents, normalised as the transformer takes them. */
  readonly latents: Float32Array;
  /** [1, channels, frames, height, width] */
  readonly shape: readonly number[];
  /** The text's embeddings. */
  readonly text: Float32Array;
  /** [1, tokens, dim] */
  readonly textShape: readonly number[];
}

/** Samples that can be asked for again: the same index always gives the same sample. */
export interface TrainingSet {
  /** How many samples there are; at least 1. */
  readonly size: number;
  /** Tells these samples, in this order, from all others; the same wherever they lie. */
  readonly digest: string;
  /**
   * One sample.
   *
   * @param index from 0 to `size` − 1
   * @throws {TilereelError} if what it is made from has gone or changed.
   */
  sample(index: number): Promise<TrainingSample>;
}
