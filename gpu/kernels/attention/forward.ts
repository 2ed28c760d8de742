import { type Binding, type ParamType, read, write } from "../../kernel.ts";
import { panelName, type PanelShape } from "../gemm/pack.ts";

/** The requirements of a call of attention for a forward kernel. */
export interface ForwardCall {
  readonly headDim: number;
  readonly bias: boolean;
  readonly plan: boolean;
  /** Also writes the log-sum-exp of each query. */
  readonly lse: boolean;
  /** The last key stands for several equal ones: the parameter `repeats` is log2 of their number. */
  readonly repeats?: boolean;
  /** The panels of f16 that the output is written in, for matrix units. Default: rows of f32 */
  readonly into?: PanelShape | undefined;
  /** The output is written over the queries, which are `y` then: no block reads those of another. Not for packed queries */
  readonly inPlace?: boolean;
}

/** The parameters of a call, beside those of the loop. */
export const callParams = ({ repeats }: ForwardCall): Record<string, ParamType> => repeats ? { repeats: "f32" } : {};

/** WGSL: what is added to log2 of a score of the last key, given the indices of keys. Nothing without `repeats`. */
export const repeatedKey = ({ repeats }: ForwardCall, keys: string): string =>
  repeats ? ` + select(vec4f(), vec4f(p.repeats), ${keys} == vec4u(end - 1u))` : "";

/** The part of a kernel's name that distinguishes calls. */
export const callName = ({ headDim, bias, plan, lse, repeats, into, inPlace }: ForwardCall): string =>
  `${headDim}${bias ? "_bias" : ""}${plan ? "_plan" : ""}${lse ? "_lse" : ""}${repeats ? "_repeats" : ""}${
    into ? `_into_${panelName(into)}` : ""
  }${inPlace ? "_in_place" : ""}`;

/** WGSL: the name of the buffer that queries in f32 are read from. */
export const queriesOf = ({ inPlace }: ForwardCall): string => inPlace ? "y" : "q";

/** The buffers of a call. Keys and values are stored as `inner` says. */
export const forwardBuffers = (
  { bias, lse, into, inPlace }: ForwardCall,
  inner: string,
  looped: Readonly<Record<string, Binding>>,
): Record<string, Binding> => ({
  ...!inPlace && { q: read("vec4f") },
  k: read(inner),
  v: read(inner),
  ...looped,
  ...bias && { bias: read("f32") },
  y: write(into ? "vec2u" : "vec4f"),
  ...lse && { lse: write("f32") },
});
