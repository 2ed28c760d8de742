/**
 * Kernels that compute only some of the heads take a list of them, `head_ids`. The list is empty unless `p.has_heads`
 * is set. An empty list must not be read, so `select`, which would evaluate both sides, is not used.
 *
 * @module
 */

/** WGSL that defines `name`, the head at position `pick` among those to compute. */
export function chosenHead(name: string, pick: string): string {
  return `  var ${name} = ${pick};
  if (p.has_heads != 0u) { ${name} = head_ids[${name}]; }`;
}
