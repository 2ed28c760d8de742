import { elements, MatrixFormat } from "./format.ts";
import { fourHalves } from "./halves.ts";

/** Two groups of four, as vec4f, and their conversion to f16. */
export const eightFloats = {
  value: "mat2x4f",
  halves: (name: string, note?: string): string =>
    `${fourHalves(`${name}_of_four`, note)}
fn ${name}(v: mat2x4f) -> vec4u { return vec4u(${name}_of_four(v[0]), ${name}_of_four(v[1])); }`,
};

/** For values that are read as vec4f. */
export const unpackFloats = {
  value: "vec4f",
  unpack4: `fn unpack4(w: vec4f) -> vec4f { return w; }`,
};

export const f32: MatrixFormat = new MatrixFormat("f32", 1, 4, {
  one: elements("f32"),
  pair: elements("vec2u"),
  four: { ...elements("vec4f"), ...unpackFloats },
  eight: {
    ...elements("vec4f"),
    read: (buffer, index) => `mat2x4f(${buffer}[2u * (${index})], ${buffer}[2u * (${index}) + 1u])`,
    ...eightFloats,
    counted: true,
  },
});
