import { CLAMPED } from "../clamps.ts";
import { elements, MatrixFormat } from "./format.ts";

/** Two numbers in 32 bits, the first in the low half. `unpack2x16float` reads them, which needs no extension. */
export const f16: MatrixFormat = new MatrixFormat("f16", 1, 2, {
  one: { ...elements("u32"), read: (buffer, i) => `unpack2x16float(${buffer}[${i} / 2u])[${i} % 2u]` },
  pair: elements("u32", (word) => `bitcast<vec2u>(unpack2x16float(${word}))`),
  four: {
    ...elements("vec2u"),
    value: "vec2u",
    unpack4: `fn unpack4(w: vec2u) -> vec4f { return vec4f(unpack2x16float(w.x), unpack2x16float(w.y)); }`,
  },
  eight: {
    ...elements("vec4u"),
    value: "vec4u",
    halves: (name) => `
fn ${name}(v: vec4u) -> vec4u { return v; }`,
  },
}, {
  counts: true,
  half: `
fn half(bits: u32) -> u32 {
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return sign | 0x7e00u; }
  if (magnitude >= 0x477ff000u) {
    atomicAdd(&${CLAMPED}[p.counter], 1u);
    return sign | 0x7bffu;
  }
  if (magnitude >= 0x38800000u) {
    return sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13u) & 1u)) >> 13u);
  }
  // Subnormal in f16: a multiple of 2^-24.
  let shift = min(126u - (magnitude >> 23u), 25u);
  let mantissa = (magnitude & 0x7fffffu) | 0x800000u;
  let whole = mantissa >> shift;
  let rest = mantissa & ((1u << shift) - 1u);
  let tie = 1u << (shift - 1u);
  return sign | (whole + select(0u, 1u, rest > tie || (rest == tie && (whole & 1u) == 1u)));
}`,
});
