/**
 * Converts matrices to another number format.
 *
 * @module
 */
import { CLAMPED, clampedBuffer } from "../clamps.ts";
import type { Gpu } from "../gpu.ts";
import { type KernelSource, read, write } from "../kernel.ts";
import { memo } from "../kernels/memo.ts";
import type { WeightDtype } from "../kernels/packed.ts";
import type { Tensor } from "../tensor.ts";
import { groups1d, INDEX_1D } from "./grid.ts";

/** The formats that take half as much memory as f32. */
export type HalfDtype = Exclude<WeightDtype, "f32">;

/** Reads two neighbouring numbers, as the bits of f32. */
const PAIR: Readonly<Record<WeightDtype, string>> = {
  f32: "x[i]",
  bf16: "vec2u(x[i] << 16u, x[i] & 0xffff0000u)",
  f16: "bitcast<vec2u>(unpack2x16float(x[i]))",
};

/**
 * WGSL: `half(bits)` rounds the bits of an f32 to nearest, ties to even. It uses integers, because the rounding of a
 * GPU's own conversion is not specified, and a GPU may assume that no f32 is NaN.
 */
const HALF: Readonly<Record<HalfDtype, string>> = {
  bf16: `
fn half(bits: u32) -> u32 {
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return (bits >> 16u) | 0x40u; }
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}`,
  f16: `
fn half(bits: u32) -> u32 {
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return sign | 0x7e00u; }
  if (magnitude >= 0x477ff000u) {
    atomicAdd(&${CLAMPED}[p.place], 1u);
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
};

const kernel = memo(({ from, to }: { from: WeightDtype; to: HalfDtype }): KernelSource => ({
  name: `cast_${from}_${to}`,
  buffers: { x: read(from === "f32" ? "vec2u" : "u32"), y: write("u32"), ...to === "f16" && clampedBuffer },
  params: { count: "u32", numbers: "u32", place: "u32" },
  workgroupSize: [64, 1, 1],
  declarations: HALF[to],
  body: `  ${INDEX_1D}
  if (i >= p.count) { return; }
  var pair = ${PAIR[from]};
  // There is no number past the last one.
  if (2u * i + 1u == p.numbers) { pair.y = 0u; }
  y[i] = half(pair.x) | (half(pair.y) << 16u);`,
}));

/**
 * Converts numbers to bf16 or f16, to nearest, ties to even. Numbers past f16's range become ±65504 and are counted
 * under `place` (see `ClampCounter.placeOf`).
 *
 * @param x f32, bf16 or f16
 * @param y the same number of elements in the other format; may be part of a tensor
 */
export function castInto(gpu: Gpu, x: Tensor, y: Tensor, place: number): void {
  const from = x.dtype as WeightDtype, to = y.dtype as HalfDtype, numbers = y.size, count = Math.ceil(numbers / 2);
  if (x.size !== y.size || from === to) throw new Error(`cast of [${x.shape}] ${from} to [${y.shape}] ${to}`);
  const params = { count, numbers, place };
  gpu.run(kernel({ from, to }), { buffers: { x, y }, params, workgroups: groups1d(count) });
}
