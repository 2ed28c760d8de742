import { blockFormat } from "./block_format.ts";
import type { MatrixFormat } from "./format.ts";

/**
 * WGSL: `turned(v)`, an orthogonal map of four numbers that is its own inverse (a Hadamard matrix). It spreads a number
 * that is larger than the others over four, so that a row's largest number is smaller, and so are its steps.
 */
export const TURNED = `
fn turned(v: vec4f) -> vec4f {
  let a = v.xz + v.yw;
  let b = v.xz - v.yw;
  return 0.5 * vec4f(a.x + a.y, b.x + b.y, a.x - a.y, b.x - b.y);
}`;

/**
 * Integers of 8 bits, four in a word, from -127 to 127. A matrix has a scale for each row beside it: it stands for its
 * integers, turned by fours, times these. `castToInt8` makes both. A product of two such rows is that of their integers,
 * because both are turned.
 */
export const i8: MatrixFormat = blockFormat({
  ...{ name: "i8", blockElements: 1, blockBytes: 1, element: "u32" },
  four: (buffer) =>
    `  let v = vec4f(bitcast<vec4i>(vec4u(${buffer}[i]) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u));
  let a = v.xz + v.yw;
  let b = v.xz - v.yw;
  return 0.5 * vec4f(a.x + a.y, b.x + b.y, a.x - a.y, b.x - b.y);`,
});

/** The largest integer that is used, so that the smallest is its negative. */
export const I8_MAX = 127;

/**
 * WGSL: `i8_inverse(top) -> f32`, what the numbers of a row are multiplied by before they are rounded, given the largest
 * magnitude; and `four_i8(v) -> u32`, which rounds four such products to nearest, ties to even.
 */
export const TO_I8 = `
fn i8_inverse(top: f32) -> f32 { return select(0.0, ${I8_MAX}.0 / top, top > 1e-30); }
fn four_i8(v: vec4f) -> u32 {
  let q = vec4u(vec4i(round(clamp(v, vec4f(-${I8_MAX}.0), vec4f(${I8_MAX}.0))))) & vec4u(0xffu);
  return q.x | (q.y << 8u) | (q.z << 16u) | (q.w << 24u);
}`;
