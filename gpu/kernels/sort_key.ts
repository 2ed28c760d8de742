/**
 * Floats as integers of the same order, for kernels that sort or select. Integers compare in one way only, while
 * comparisons of floats leave open where NaN is, and WGSL compilers may assume that there is none.
 *
 * @module
 */

/**
 * Declares a WGSL function `sort_key(bits) -> u32` of the bits of an f32. −0 becomes 0. Positive NaNs lie above all
 * numbers, negative ones below.
 */
export const SORT_KEY = `
fn sort_key(bits: u32) -> u32 {
  if ((bits & 0x7fffffffu) == 0u) { return 0x80000000u; }
  return select(bits | 0x80000000u, ~bits, bits > 0x7fffffffu);
}`;
