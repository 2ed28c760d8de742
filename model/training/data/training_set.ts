import type { HostConditioning } from "../../conditioning.ts";

/** One clean sample and its text. */
export interface TrainingSample {
  /** The clip's latents, normalised as the transformer takes them. */
  readonly latents: Float32Array;
  /** [1, channels, frames, height, width] */
  readonly shape: readonly number[];
  /** What the model is conditioned on: the text's embeddings, and what else its family makes of a text. */
  readonly conditioning: HostConditioning;
}

/** Samples that can be asked for again: the same index always gives the same sample. */
export interface TrainingSet {
  /** The number of samples, at least 1. */
  readonly size: number;
  /** Identifies these samples in this order. It does not depend on where they are stored. */
  readonly digest: string;
  /**
   * One sample.
   *
   * @param index from 0 to `size` − 1
   * @throws {TilereelError} if its source has gone or changed
   */
  sample(index: number): Promise<TrainingSample>;
}
