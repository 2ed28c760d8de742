/**
 * What the forward kernels for GPUs have in common.
 *
 * @module
 */
import { type Binding, read, write } from "../../kernel.ts";

/** What a call of attention asks of a kernel. */
export interface ForwardCall {
  readonly headDim: number;
  readonly bias: boolean;
  readonly plan: boolean;
  /** Writes the log of each query's sum of exponentials too. */
  readonly lse: boolean;
}

/** The part of a kernel's name that tells calls apart. */
export const callName = ({ headDim, bias, plan, lse }: ForwardCall): string =>
  `${headDim}${bias ? "_bias" : ""}${plan ? "_plan" : ""}${lse ? "_lse" : ""}`;

/** Buffers of a call: keys and values as `inner` holds them. */
export const forwardBuffers = (
  { bias, lse }: ForwardCall,
  inner: string,
  walked: Readonly<Record<string, Binding>>,
): Record<string, Binding> => ({
  q: read("vec4f"),
  k: read(inner),
  v: read(inner),
  ...walked,
  ...bias && { bias: read("f32") },
  y: write("vec4f"),
  ...lse && { lse: write("f32") },
});

/** Scores are kept in powers of two: exp2 is what GPUs have. */
export const LOG2_E = Math.LOG2E;
/** From powers of two back to powers of e. */
export const LN_2 = Math.LN2;
