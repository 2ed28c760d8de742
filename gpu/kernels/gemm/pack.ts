/**
 * The operand layout that products by matrix units read fastest: f16, cut into the panels that workgroups stage, each
 * contiguous. The panels of one band of rows follow one another. A panel is padded with zeros past the operand's
 * columns, so that reads need no check. Past its rows it may hold anything, which affects no row that counts.
 *
 * Within a panel, groups of eight numbers are in the order in which they are staged (`stagedPosition`).
 *
 * @module
 */
import { clampedBuffer, noteClamped } from "../../clamps.ts";
import { read, u32s, write } from "../../kernel.ts";
import { memo } from "../memo.ts";
import type { MatrixFormat } from "../../formats/format.ts";
import { NOTE } from "../../formats/halves.ts";
import { perElement } from "../per_element.ts";
import { stagedPosition } from "../product/matrix.ts";

/** The shape of the panels of an operand. */
export interface PanelShape {
  /** The number of rows of a panel, a multiple of 8. */
  readonly rows: number;
  /** The number of groups of eight numbers in a row of a panel. */
  readonly depth: number;
}

/** The number of panels of an operand with `height` rows of length k. */
export function panelCount({ rows, depth }: PanelShape, height: number, k: number): number {
  return Math.ceil(height / rows) * Math.ceil(k / 8 / depth);
}

/**
 * WGSL: the index, among all groups of eight in all panels, of group `eight` of `row`. A row has `eights`
 * groups. It is the inverse of `stagedPosition`.
 */
export function indexInPanels({ rows, depth }: PanelShape, row: string, eight: string, eights: string): string {
  const panel = `(${row} / ${rows}u * ((${eights} + ${depth - 1}u) / ${depth}u) + ${eight} / ${depth}u)`;
  const inPanel = `(${row} % ${rows}u / 8u * ${8 * depth}u + ${eight} % ${depth}u * 8u + ${row} % 8u)`;
  return `${panel} * ${rows * depth}u + ${inPanel}`;
}

/** Packs an operand. A thread converts eight numbers. */
export const packPanels = memo(({ format, rows, depth }: PanelShape & { format: MatrixFormat }) => {
  const source = format.read.eight, { counted } = source;
  const [row, place] = stagedPosition(depth, `(i % ${rows * depth}u)`);
  return perElement({
    name: `gemm_pack_${rows}x${8 * depth}_${format}`,
    buffers: { x: read(source.element), y: write("vec4u"), ...counted && clampedBuffer },
    params: u32s("rows", "eights"),
    declarations: source.declare("x") +
      (counted ? noteClamped("inputs of matrix products") + source.halves("halves", NOTE) : source.halves("halves")),
    body: `  let panel = i / ${rows * depth}u;
  let panels = (p.eights + ${depth - 1}u) / ${depth}u;
  let row = panel / panels * ${rows}u + ${row};
  let eight = panel % panels * ${depth}u + ${place};
  var made = vec4u();
  if (row < p.rows && eight < p.eights) { made = halves(${source.read("x", "row * p.eights + eight")}); }
  y[i] = made;`,
  });
});
