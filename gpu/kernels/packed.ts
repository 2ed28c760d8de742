/**
 * Reading four consecutive numbers of a tensor whatever its number format. There is no bf16 in WGSL: a bf16 is the upper
 * half of an f32, so a shift widens it exactly. f16 is widened by `unpack2x16float`, which needs no extension.
 *
 * @module
 */
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
