/**
 * Kernels that compute only some of the heads take a list of them, `head_ids`. The list is empty unless `p.has_heads`
 * is set. An empty list must not be read, so `select`, which would evaluate both sides, is not used.
 *
 * A kernel may read tables of several *kinds* of heads (see `TileLayout`). A number of the list has the head in its lower
 * half, and in its upper half the head's kind, which is 0 without a list.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { u32s } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";

/** The heads of an op's operands, and which of them it computes. */
export interface Heads {
  readonly heads: number;
  /** [n], u32, as `headOfKind` makes them: the heads to compute; the results of others are undefined. Default: all */
  readonly only?: Tensor | undefined;
}

/** The number of heads to compute, and what such a kernel takes of them. */
export function chosenHeads(gpu: Gpu, { heads, only }: Heads) {
  const chosen = only?.dim(0) ?? heads;
  return { chosen, head_ids: only ?? gpu.placeholder, params: { heads, chosen, has_heads: only ? 1 : 0 } };
}

/** The parameters of such a kernel. `chosen` is the number of heads to compute. */
export const HEAD_PARAMS = u32s("heads", "chosen", "has_heads");

/** A head's number in a list of heads. Both numbers are below 2¹⁶. */
export const headOfKind = (head: number, kind: number): number => (head | kind << 16) >>> 0;

/** WGSL that defines `name`, the head at position `pick` among those to compute, and `kind`. */
export function chosenHead(name: string, pick: string): string {
  return `  var ${name} = ${pick};
  var kind = 0u;
  if (p.has_heads != 0u) {
    kind = head_ids[${name}] >> 16u;
    ${name} = head_ids[${name}] & 0xffffu;
  }`;
}
