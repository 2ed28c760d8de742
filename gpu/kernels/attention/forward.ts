import { type Binding, read, write } from "../../kernel.ts";

/** The requirements of a call of attention for a forward kernel. */
export interface ForwardCall {
  readonly headDim: number;
  readonly bias: boolean;
  readonly plan: boolean;
  /** Also writes the log-sum-exp of each query. */
  readonly lse: boolean;
}

/** The part of a kernel's name that distinguishes calls. */
export const callName = ({ headDim, bias, plan, lse }: ForwardCall): string =>
  `${headDim}${bias ? "_bias" : ""}${plan ? "_plan" : ""}${lse ? "_lse" : ""}`;

/** The buffers of a call. Keys and values are stored as `inner` says. */
export const forwardBuffers = (
  { bias, lse }: ForwardCall,
  inner: string,
  looped: Readonly<Record<string, Binding>>,
): Record<string, Binding> => ({
  q: read("vec4f"),
  k: read(inner),
  v: read(inner),
  ...looped,
  ...bias && { bias: read("f32") },
  y: write("vec4f"),
  ...lse && { lse: write("f32") },
});
