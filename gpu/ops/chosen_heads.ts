import type { Gpu } from "../gpu.ts";
import type { Tensor } from "../tensor.ts";

/** The heads of an op's operands, and which of them it computes. */
export interface Heads {
  readonly heads: number;
  /** [n], u32: the heads to compute; the results of other heads are undefined. Default: all */
  readonly only?: Tensor | undefined;
}

/** The number of heads to compute, and what kernels take of them; see `kernels/chosen_head.ts`. */
export function chosenHeads(gpu: Gpu, { heads, only }: Heads) {
  const chosen = only?.dim(0) ?? heads;
  return { chosen, head_ids: only ?? gpu.placeholder, params: { heads, chosen, has_heads: only ? 1 : 0 } };
}
