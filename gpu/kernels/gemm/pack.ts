/**
 * Operands as products by matrix units read them fastest: in f16, cut into the blocks that workgroups stage, each in
 * one piece. Blocks of one band of rows follow one another. What a block has beyond the operand's columns is zero, so
 * that nothing has to be checked where it is read; beyond its rows there may be anything, which reaches no row that
 * counts.
 *
 * Within a block eights lie in the order in which they are staged (`stagedPlace`).
 *
 * @module
 */
import { clampedBuffer, noteClamped } from "../../clamps.ts";
import { type KernelSource, read, write } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { eight, type WeightDtype } from "../packed.ts";
import { stagedPlace } from "../product/matrix.ts";

/** How an operand is cut. */
export interface Cut {
  /** Rows of a block, a multiple of 8. */
  readonly rows: number;
  /** Eights of numbers of a row in a block. */
  readonly depth: number;
}

/** Blocks of an operand of so many rows of length k. */
export function blockCount({ rows, depth }: Cut, height: number, k: number): number {
  return Math.ceil(height / rows) * Math.ceil(k / 8 / depth);
}

/** WGSL: which eight of all blocks it is that has `eight` of `row`, where a row has so many. Undoes `stagedPlace`. */
export function placeInBlocks({ rows, depth }: Cut, row: string, eight: string, eights: string): string {
  const block = `(${row} / ${rows}u * ((${eights} + ${depth - 1}u) / ${depth}u) + ${eight} / ${depth}u)`;
  const inBlock = `(${row} % ${rows}u / 8u * ${8 * depth}u + ${eight} % ${depth}u * 8u + ${row} % 8u)`;
  return `${block} * ${rows * depth}u + ${inBlock}`;
}

/** A thread makes eight numbers; `i` is its index. */
export const packBlocks = memo(
  ({ dtype, rows, depth, index }: Cut & { dtype: WeightDtype; index: string }): KernelSource => {
    const source = eight(dtype), clamps = dtype === "f32";
    const [row, place] = stagedPlace(depth, `(i % ${rows * depth}u)`);
    return {
      name: `gemm_pack_${rows}x${8 * depth}_${dtype}`,
      buffers: { x: read(source.element), y: write("vec4u"), ...clamps && clampedBuffer },
      params: { rows: "u32", eights: "u32", count: "u32" },
      workgroupSize: [64, 1, 1],
      declarations: clamps
        ? noteClamped("inputs of matrix products") + source.halves("halves", "note_clamped(v);")
        : source.halves("halves"),
      body: `  ${index}
  if (i >= p.count) { return; }
  let block = i / ${rows * depth}u;
  let blocks = (p.eights + ${depth - 1}u) / ${depth}u;
  let row = block / blocks * ${rows}u + ${row};
  let eight = block % blocks * ${depth}u + ${place};
  var made = vec4u();
  if (row < p.rows && eight < p.eights) { made = halves(${source.read("x", "row * p.eights + eight")}); }
  y[i] = made;`,
    };
  },
);
