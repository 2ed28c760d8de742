/**
 * What a benchmark case is.
 *
 * @module
 */
import type { Gpu } from "../gpu/gpu.ts";

/** Problem sizes: for software adapters, and for GPUs. */
export type Size = "small" | "large";

/** One thing that is timed, on one `Gpu`. */
export interface Case {
  /** What is computed, with its size. */
  readonly name: string;
  /** Makes the operands. What it gives is timed; it frees what it makes but the operands. */
  readonly prepare: (gpu: Gpu) => Promise<Prepared>;
}

/** A case, ready to be timed. */
export interface Prepared {
  /** Records the work once, and may wait for it. */
  readonly work: () => unknown;
  /** Frees the operands. */
  readonly release: () => void;
}
