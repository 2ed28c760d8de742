import { elements, MatrixFormat } from "./format.ts";

/** The vec2f of a word of two numbers. */
const floats = (word: string) => `vec2f(bitcast<f32>(${word} << 16u), bitcast<f32>(${word} & 0xffff0000u))`;

/**
 * Two numbers in 32 bits, the first in the low half. WGSL has no bf16, but a bf16 is the upper half of an f32, so a shift
 * converts it exactly. Weights in bf16 are assumed to be within the range of f16.
 */
export const bf16: MatrixFormat = new MatrixFormat("bf16", 1, 2, {
  one: {
    ...elements("u32"),
    read: (buffer, i) => {
      const word = `${buffer}[${i} / 2u]`;
      return `bitcast<f32>(select(${word} << 16u, ${word} & 0xffff0000u, ${i} % 2u == 1u))`;
    },
  },
  pair: elements("u32", (word) => `vec2u(${word} << 16u, ${word} & 0xffff0000u)`),
  four: {
    ...elements("vec2u"),
    value: "vec2u",
    unpack4: `fn unpack4(w: vec2u) -> vec4f {
  return bitcast<vec4f>(vec4u(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u));
}`,
  },
  eight: {
    ...elements("vec4u"),
    value: "vec4u",
    halves: (name) => `
fn ${name}(v: vec4u) -> vec4u { return vec4u(${
      [..."xyzw"].map((c) => `pack2x16float(${floats(`v.${c}`)})`).join(", ")
    }); }`,
  },
}, {
  counts: false,
  half: `
fn half(bits: u32) -> u32 {
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return (bits >> 16u) | 0x40u; }
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}`,
});
