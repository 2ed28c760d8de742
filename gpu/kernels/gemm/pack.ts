/**
 * Operands as products by matrix units read them fastest: in f16, cut into the blocks that workgroups stage, each in one
 * piece. Blocks of one band of rows follow one another. What a block has beyond the operand is zero, so that nothing has
 * to be checked where it is read.
 *
 * @module
 */
import { type KernelSource, read, write } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { eight, type WeightDtype } from "../packed.ts";

/** How an operand is cut. */
export interface PackedBlocks {
  /** Rows of a block. */
  readonly rows: number;
  /** Eights of numbers of a row in a block. */
  readonly depth: number;
}

/** A thread makes eight numbers; `i` is its index. */
export const packBlocks = memo(
  ({ dtype, rows, depth, index }: PackedBlocks & { dtype: WeightDtype; index: string }): KernelSource => {
    const source = eight(dtype);
    return {
      name: `gemm_pack_${rows}x${8 * depth}_${dtype}`,
      buffers: { x: read(source.element), y: write("vec4u") },
      params: { rows: "u32", eights: "u32", count: "u32" },
      workgroupSize: [64, 1, 1],
      declarations: source.halves("halves"),
      body: `  ${index}
  if (i >= p.count) { return; }
  let block = i / ${rows * depth}u;
  let blocks = (p.eights + ${depth - 1}u) / ${depth}u;
  let row = block / blocks * ${rows}u + i / ${depth}u % ${rows}u;
  let eight = block % blocks * ${depth}u + i % ${depth}u;
  var made = vec4u();
  if (row < p.rows && eight < p.eights) { made = halves(${source.read("x", "row * p.eights + eight")}); }
  y[i] = made;`,
    };
  },
);
