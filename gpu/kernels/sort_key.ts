/**
 * Declares a WGSL function `sort_key(bits) -> u32`: the bits of an f32 as an integer of the same order, to sort or
 * select by. Integers compare in one way only, while WGSL compilers may assume that no float is NaN. −0 becomes 0.
 * Positive NaNs lie above all numbers, negative ones below.
 */
export const SORT_KEY = `
fn sort_key(bits: u32) -> u32 {
  if ((bits & 0x7fffffffu) == 0u) { return 0x80000000u; }
  return select(bits | 0x80000000u, ~bits, bits > 0x7fffffffu);
}`;
