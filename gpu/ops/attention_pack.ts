/**
 * Operands of attention as kernels hold them: head by head, only the heads that are computed, in the order of tokens or
 * of a plan's slots.
 *
 * @module
 */
import { f16 } from "../formats/f16.ts";
import { I8_MAX } from "../formats/i8.ts";
import type { Gpu } from "../gpu.ts";
import { PACK_THREADS, packHalves, packInt8 } from "../kernels/attention/pack.ts";
import { chosenHeads } from "../kernels/chosen_heads.ts";
import type { Tensor } from "../tensor.ts";
import { type AttentionPattern, orderStrides } from "./attention_launch.ts";
import { combine } from "./combine.ts";
import { largestOfRows } from "./sum_rows.ts";

/** What both kernels take, given the number of rows to pack and the numbers of a row that a thread packs. */
function packing(gpu: Gpu, pattern: AttentionPattern, x: Tensor, rows: number, each: number) {
  const { plan, heads } = pattern, [batch, tokens, dim] = x.shape as [number, number, number], headDim = dim / heads;
  const { chosen, head_ids, params } = chosenHeads(gpu, pattern);
  return {
    ...{ batch, chosen, headDim },
    kernel: { headDim, plan: plan !== undefined },
    buffers: { head_ids, ...plan && { order: plan.order } },
    params: { ...params, tokens, rows, ...orderStrides(plan) },
    workgroups: [Math.ceil(rows * headDim / each / PACK_THREADS), chosen, batch] as const,
  };
}

/** The number of rows of packed keys and values. */
function keyRows({ plan }: AttentionPattern, k: Tensor): number {
  return plan?.keySlots ?? plan?.order.dim(1) ?? k.dim(1);
}

/** Keys or values to pack to f16. */
export interface HalfOperand {
  /** [batch, keys, heads · head dim], f32; or f16, without a shift */
  readonly x: Tensor;
  /** [batch, heads · head dim], f32: the sums over all tokens, whose mean is subtracted first */
  readonly shift?: Tensor | undefined;
}

/**
 * Keys, values or both in f16. Numbers that f16 cannot hold are clamped.
 *
 * @param operands of one shape; one may be shifted
 * @returns of each [batch, chosen heads, keys or slots of keys, head dim]
 */
export function packedHalves(gpu: Gpu, pattern: AttentionPattern, operands: readonly HalfOperand[]): Tensor[] {
  const [{ x: first }] = operands as [HalfOperand], rows = keyRows(pattern, first);
  const { kernel, batch, chosen, headDim, buffers, ...rest } = packing(gpu, pattern, first, rows, 8);
  const packed = operands.map(() => gpu.tensor([batch, chosen, rows, headDim], "f16"));
  const shift = operands.find(({ shift }) => shift)?.shift;
  const kinds = operands.map(({ x, shift }) => ({ shifted: shift !== undefined, halves: isHalves(x) }));
  gpu.run(packHalves({ ...kernel, operands: kinds }), {
    buffers: {
      ...buffers,
      ...shift && { sums: shift },
      ...Object.fromEntries(operands.flatMap(({ x }, i) => [[`x${i}`, x], [`y${i}`, packed[i]!]])),
    },
    ...rest,
  });
  return packed;
}

/** Whether a tensor is in f16. */
export const isHalves = ({ format }: Tensor): boolean => format === f16;

/** Options of {@link packedInt8}. */
export interface Int8Packing {
  /** The number of tokens or slots to pack. Default: all */
  readonly rows?: number;
  /** A number of rows of undefined contents behind these, which kernels may read. Default: 0 */
  readonly more?: number;
  /** [batch, heads · head dim], f32: the sums over all tokens. Their mean is subtracted first. */
  readonly shift?: Tensor | undefined;
  /** A factor for the scales. Default: 1 */
  readonly factor?: number;
}

/**
 * Queries or keys in int8, with a scale for each row.
 *
 * @param x [batch, tokens, heads · head dim], f32; head dim 16, 32, 64 or 128
 * @returns y: [batch, chosen heads, rows, head dim], i8, and their scales: [batch, chosen heads, rows], f32
 */
export function packedInt8(
  gpu: Gpu,
  pattern: AttentionPattern,
  x: Tensor,
  { rows = pattern.plan?.order.dim(1) ?? x.dim(1), more = 0, shift, factor = 1 }: Int8Packing,
): { y: Tensor; scales: Tensor } {
  const { kernel, batch, chosen, headDim, buffers, params, ...rest } = packing(gpu, pattern, x, rows, 16);
  const room = rows + more;
  const y = gpu.tensor([batch, chosen, room, headDim], "i8"), scales = gpu.tensor([batch, chosen, room]);
  gpu.run(packInt8({ ...kernel, by: "row", shifted: shift !== undefined }), {
    buffers: { ...buffers, x, ...shift && { sums: shift }, y, scales },
    params: { ...params, room, factor },
    ...rest,
  });
  return { y, scales };
}

/**
 * Values in int8, with a scale for each channel.
 *
 * @param x [batch, keys, heads · head dim], f32; head dim 16, 32, 64 or 128
 * @returns y: [batch, chosen heads, keys or slots of keys, head dim], i8, and their scales: [batch, heads · head dim], f32
 */
export function packedValues(gpu: Gpu, pattern: AttentionPattern, x: Tensor): { y: Tensor; scales: Tensor } {
  const rows = keyRows(pattern, x);
  const { kernel, batch, chosen, headDim, buffers, params, ...rest } = packing(gpu, pattern, x, rows, 16);
  const y = gpu.tensor([batch, chosen, rows, headDim], "i8"), tops = largestOfRows(gpu, x, pattern);
  gpu.run(packInt8({ ...kernel, by: "channel", shifted: false }), {
    buffers: { ...buffers, x, tops, y },
    params: { ...params, room: rows, factor: 1 },
    ...rest,
  });
  return { y, scales: combine(gpu, [[1 / I8_MAX, tops]]) };
}
