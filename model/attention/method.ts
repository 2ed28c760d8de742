/**
 * How self-attention among a clip's tokens is computed: what the pipeline knows of sparse attention. A new kind of
 * attention is another of these.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { Sigmas } from "../schedulers/sigmas.ts";
import type { SelfAttention } from "../wan/attention.ts";
import type { Grid } from "../wan/grid.ts";
import type { WanTransformer3DModel } from "../wan/transformer.ts";
import type { AttentionReport } from "./report.ts";

/** What attention gets ready for: one clip's grid and schedule. */
export interface AttentionTask {
  readonly gpu: Gpu;
  readonly transformer: WanTransformer3DModel;
  readonly grid: Grid;
  /** Of all denoising steps. */
  readonly timesteps: readonly number[];
  /** The clip's, where they were asked for. */
  readonly sigmas?: Sigmas | undefined;
  /** Told in a clause what is worth knowing of this clip's attention. */
  readonly onNote?: ((note: string) => void) | undefined;
}

/** A kind of attention with its settings. */
export interface AttentionMethod {
  /**
   * Gets ready for one clip, before its first step.
   *
   * @throws {TilereelError} if it does not fit the model, or memory runs out
   */
  prepare(task: AttentionTask): Promise<PreparedAttention>;
}

/** Attention for one clip; holds GPU memory until it is disposed of. */
export interface PreparedAttention extends Disposable {
  /** For the forward passes of one step. What it uploads belongs to the scope around. */
  at(step: number): SelfAttention | undefined;
  /** What was done, after the last step. */
  readonly report: AttentionReport;
}

/** Every token sees every other. */
export const fullAttention: AttentionMethod = {
  prepare: () => Promise.resolve({ at: () => undefined, report: { density: 1 }, [Symbol.dispose]() {} }),
};
