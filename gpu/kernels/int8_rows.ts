/**
 * What kernels of rows share that write `i8` with a scale for each row.
 *
 * @module
 */
import { I8_MAX, TO_I8, TURNED } from "../formats/i8.ts";
import { indexInPanels, type PanelShape } from "./gemm/pack.ts";
import { type Lanes, rowMax } from "./row_reduction.ts";

/**
 * WGSL for a kernel of `perRow`: `magnitudes(v) -> vec4u`, whose largest are collected; `row_top(most, lane) -> f32`, the
 * largest magnitude of the row; and what `TO_I8` declares. A maximum of floats may lose a NaN; as bits, it is the largest.
 */
export const toI8Rows = (lanes: Lanes): string =>
  `${rowMax(lanes)}${TO_I8}${TURNED}
fn magnitudes(v: vec4f) -> vec4u { return bitcast<vec4u>(v) & vec4u(0x7fffffffu); }
fn row_top(most: vec4u, lane: u32) -> f32 {
  let both = max(most.xy, most.zw);
  return bitcast<f32>(row_max(max(both.x, both.y), lane));
}`;

/** WGSL: stores the scale of a row in the buffer `scales`, given the row's largest magnitude `top`. */
export const STORE_SCALE = `  if (lane == 0u) { scales[row] = top / ${I8_MAX}.0; }
  let inverse = i8_inverse(top);`;

/** WGSL: the word of the output that four numbers of the row belong in: the `i`-th fours, of `p.dim4`. */
export const wordOfRow = (i: string, panel: PanelShape | undefined): string =>
  panel ? `4u * (${indexInPanels(panel, "row", `(${i} / 4u)`, "(p.dim4 / 4u)")}) + ${i} % 4u` : `at + ${i}`;
