/**
 * The operand layout that products by matrix units read fastest: f16, cut into the blocks that workgroups stage, each
 * contiguous. The blocks of one band of rows follow one another. A block is padded with zeros past the operand's
 * columns, so that reads need no check. Past its rows it may hold anything, which affects no row that counts.
 *
 * Within a block, groups of eight numbers are in the order in which they are staged (`stagedPlace`).
 *
 * @module
 */
import { clampedBuffer, noteClamped } from "../../clamps.ts";
import { type KernelSource, read, write } from "../../kernel.ts";
import { memo } from "../memo.ts";
import type { MatrixFormat } from "../../formats/format.ts";
import { NOTE } from "../../formats/halves.ts";
import { stagedPlace } from "../product/matrix.ts";

/** The shape of the blocks of an operand. */
export interface Cut {
  /** The number of rows of a block, a multiple of 8. */
  readonly rows: number;
  /** The number of groups of eight numbers in a row of a block. */
  readonly depth: number;
}

/** The number of blocks of an operand with `height` rows of length k. */
export function blockCount({ rows, depth }: Cut, height: number, k: number): number {
  return Math.ceil(height / rows) * Math.ceil(k / 8 / depth);
}

/**
 * WGSL: the index, among all groups of eight in all blocks, of group `eight` of `row`. A row has `eights`
 * groups. It is the inverse of `stagedPlace`.
 */
export function placeInBlocks({ rows, depth }: Cut, row: string, eight: string, eights: string): string {
  const block = `(${row} / ${rows}u * ((${eights} + ${depth - 1}u) / ${depth}u) + ${eight} / ${depth}u)`;
  const inBlock = `(${row} % ${rows}u / 8u * ${8 * depth}u + ${eight} % ${depth}u * 8u + ${row} % 8u)`;
  return `${block} * ${rows * depth}u + ${inBlock}`;
}

/** Packs an operand. A thread converts eight numbers; `i` is its index. */
export const packBlocks = memo(
  ({ format, rows, depth, index }: Cut & { format: MatrixFormat; index: string }): KernelSource => {
    const source = format.read.eight, { counted } = source;
    const [row, place] = stagedPlace(depth, `(i % ${rows * depth}u)`);
    return {
      name: `gemm_pack_${rows}x${8 * depth}_${format}`,
      buffers: { x: read(source.element), y: write("vec4u"), ...counted && clampedBuffer },
      params: { rows: "u32", eights: "u32", count: "u32" },
      workgroupSize: [64, 1, 1],
      declarations: source.declare("x") +
        (counted ? noteClamped("inputs of matrix products") + source.halves("halves", NOTE) : source.halves("halves")),
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
