/**
 * Reads four consecutive numbers of a tensor in any number format. WGSL has no bf16, but a bf16 is the upper half of an
 * f32, so a shift converts it exactly. f16 is converted by `unpack2x16float`, which needs no extension.
 *
 * @module
 */
import { type ClampKind, F16_MAX, noteClamped } from "../clamps.ts";
import type { GpuDtype } from "../tensor.ts";

/** The formats that matrices may have. */
export type WeightDtype = Exclude<GpuDtype, "u32">;

/** The WGSL type of the buffer element that holds four numbers. */
export function packedElement(dtype: WeightDtype): string {
  return dtype === "f32" ? "vec4f" : "vec2u";
}

/** Declares a WGSL function `unpack4(element) -> vec4f`. */
export function unpack4(dtype: WeightDtype): string {
  switch (dtype) {
    case "f32":
      return `fn unpack4(w: vec4f) -> vec4f { return w; }`;
    case "bf16":
      return `fn unpack4(w: vec2u) -> vec4f {
  return bitcast<vec4f>(vec4u(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u));
}`;
    case "f16":
      return `fn unpack4(w: vec2u) -> vec4f { return vec4f(unpack2x16float(w.x), unpack2x16float(w.y)); }`;
  }
}

/**
 * Declares a WGSL function `name(v) -> vec2u` that converts four numbers to f16. Numbers that f16 cannot hold are
 * clamped, and counted if `note` is WGSL that does so.
 */
const fourHalves = (name: string, note = "") => `
fn ${name}(v: vec4f) -> vec2u {
  ${note}
  let held = clamp(v, vec4f(-${F16_MAX}.0), vec4f(${F16_MAX}.0));
  return vec2u(pack2x16float(held.xy), pack2x16float(held.zw));
}`;

/** That function under the name `four_halves`. */
export const FOUR_HALVES = fourHalves("four_halves");

/** The same function, which counts what it clamps. The kernel must have the {@link clampedBuffer}. */
export const countedHalves = (kind: ClampKind): string => noteClamped(kind) + fourHalves("four_halves", NOTE);

const NOTE = "note_clamped(v);";

/** How eight consecutive numbers of a tensor are read, as WGSL. Rows must be multiples of eight. */
export interface Eight {
  /** The type of the buffer's elements. */
  readonly element: string;
  /** The type of the value that is read. */
  readonly value: string;
  /** Reads the group of eight numbers at `index`, which counts such groups. */
  read(buffer: string, index: string): string;
  /**
   * Declares a function `name(value) -> vec4u` that converts them to packed f16. Numbers that f16 cannot hold are
   * clamped. With `note`, which is WGSL that needs {@link noteClamped}, they are also counted.
   */
  halves(name: string, note?: string): string;
}

/** See {@link Eight}. bf16 weights are assumed to be within f16's range. */
export function eight(dtype: WeightDtype): Eight {
  if (dtype === "f32") {
    return {
      element: "vec4f",
      value: "mat2x4f",
      read: (buffer, index) => `mat2x4f(${buffer}[2u * (${index})], ${buffer}[2u * (${index}) + 1u])`,
      halves: (name, note) =>
        `${fourHalves(`${name}_of_four`, note)}
fn ${name}(v: mat2x4f) -> vec4u { return vec4u(${name}_of_four(v[0]), ${name}_of_four(v[1])); }`,
    };
  }
  const widened = `vec2f(bitcast<f32>(v[i] << 16u), bitcast<f32>(v[i] & 0xffff0000u))`;
  const packed = [0, 1, 2, 3].map((i) => `pack2x16float(${widened.replaceAll("[i]", `.${"xyzw"[i]}`)})`).join(", ");
  return {
    element: "vec4u",
    value: "vec4u",
    read: (buffer, index) => `${buffer}[${index}]`,
    halves: (name) => `
fn ${name}(v: vec4u) -> vec4u { return ${dtype === "f16" ? "v" : `vec4u(${packed})`}; }`,
  };
}
