/**
 * Reading four consecutive numbers of a tensor whatever its number format. There is no bf16 in WGSL: a bf16 is the
 * upper half of an f32, so a shift widens it exactly. f16 is widened by `unpack2x16float`, which needs no extension.
 *
 * @module
 */
import { type ClampKind, F16_MAX, noteClamped } from "../clamps.ts";
import type { GpuDtype } from "../tensor.ts";

/** Formats that matrices may have. */
export type WeightDtype = Exclude<GpuDtype, "u32">;

/** WGSL type of the buffer element that holds four numbers. */
export function packedElement(dtype: WeightDtype): string {
  return dtype === "f32" ? "vec4f" : "vec2u";
}

/** A WGSL function `unpack4(element) -> vec4f`. */
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
 * A WGSL function `name(v) -> vec2u` that makes four numbers f16; those that f16 cannot hold become the largest it
 * can, and are counted where `note` is WGSL that does so.
 */
const fourHalves = (name: string, note = "") => `
fn ${name}(v: vec4f) -> vec2u {
  ${note}
  let held = clamp(v, vec4f(-${F16_MAX}.0), vec4f(${F16_MAX}.0));
  return vec2u(pack2x16float(held.xy), pack2x16float(held.zw));
}`;

/** It as `four_halves`. */
export const FOUR_HALVES = fourHalves("four_halves");

/** It with what it cannot hold counted: the kernel has the {@link clampedBuffer}. */
export const countedHalves = (kind: ClampKind): string => noteClamped(kind) + fourHalves("four_halves", NOTE);

const NOTE = "note_clamped(v);";

/** How eight consecutive numbers of a tensor are read, where rows are multiples of eight: WGSL. */
export interface Eight {
  /** Type of the buffer's elements. */
  readonly element: string;
  /** Type of what is read. */
  readonly value: string;
  /** Reads the eight numbers at `index`, counted in eights. */
  read(buffer: string, index: string): string;
  /**
   * A function `name(value) -> vec4u` that makes them f16, packed; numbers that f16 cannot hold become the largest it
   * can. With `note`, WGSL behind a {@link noteClamped}, these are counted.
   */
  halves(name: string, note?: string): string;
}

/** See {@link Eight}. bf16 weights are taken to be within f16's range. */
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
