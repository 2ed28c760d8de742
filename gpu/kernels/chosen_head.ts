/**
 * Kernels that compute only some of the heads take a list of them, `head_ids`. The list is empty unless `p.has_heads`
 * is set. An empty list must not be read, so `select`, which would evaluate both sides, is not used.
 *
 * @module
 */
import { u32s } from "../kernel.ts";

/** The parameters of such a kernel. `chosen` is the number of heads to compute. */
export const HEAD_PARAMS = u32s("heads", "chosen", "has_heads");

/** WGSL that defines `name`, the head at position `pick` among those to compute. */
export function chosenHead(name: string, pick: string): string {
  return `  var ${name} = ${pick};
  if (p.has_heads != 0u) { ${name} = head_ids[${name}]; }`;
}
