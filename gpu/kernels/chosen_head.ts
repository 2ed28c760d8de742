/**
 * Kernels that compute some of the heads take a list of them, `head_ids`, which holds nothing unless `p.has_heads` says
 * so: a list that is not there must not be read either, as `select` would.
 *
 * @module
 */

/** WGSL that defines `name`, the head that is number `pick` of those to compute. */
export function chosenHead(name: string, pick: string): string {
  return `  var ${name} = ${pick};
  if (p.has_heads != 0u) { ${name} = head_ids[${name}]; }`;
}
