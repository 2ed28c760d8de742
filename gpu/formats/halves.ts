/**
 * Converts f32 to f16, in WGSL.
 *
 * @module
 */
import { type ClampKind, F16_MAX, noteClamped } from "../clamps.ts";

/**
 * Declares a WGSL function `name(v) -> vec2u` that converts four numbers to f16. Numbers that f16 cannot hold are
 * clamped, and counted if `note` is WGSL that does so.
 */
export const fourHalves = (name: string, note = "") => `
fn ${name}(v: vec4f) -> vec2u {
  ${note}
  let held = clamp(v, vec4f(-${F16_MAX}.0), vec4f(${F16_MAX}.0));
  return vec2u(pack2x16float(held.xy), pack2x16float(held.zw));
}`;

/** WGSL that counts what it clamps, where {@link noteClamped} is declared. */
export const NOTE = "note_clamped(v);";

/** That function under the name `four_halves`. */
export const FOUR_HALVES = fourHalves("four_halves");

/** The same function, which counts what it clamps. The kernel must have the `clampedBuffer`. */
export const countedHalves = (kind: ClampKind): string => noteClamped(kind) + fourHalves("four_halves", NOTE);
