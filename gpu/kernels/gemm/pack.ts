/**
 * The operand layout that products by matrix units read fastest: f16 or i8, cut into the panels that workgroups stage,
 * each contiguous. The panels of one band of rows follow one another. A panel is padded with zeros past the operand's
 * columns, so that reads need no check. Past its rows it may hold anything, which affects no row that counts.
 *
 * A panel has the rows of several matrices. The first row of each matrix comes first, one after the other, then the
 * second of each, and so on. So the rows of one matrix are far apart, and a workgroup needs few gaps between them to
 * have them in different banks of its memory (see `panel_tile.ts`).
 *
 * @module
 */
import { clampedBuffer, noteClamped } from "../../clamps.ts";
import { read, u32s, write } from "../../kernel.ts";
import { memo } from "../memo.ts";
import type { MatrixFormat } from "../../formats/format.ts";
import { NOTE } from "../../formats/halves.ts";
import { perElement } from "../per_element.ts";

/** The formats of numbers in panels. */
export type PanelNumbers = "f16" | "i8";

/** The shape of the panels of an operand. */
export interface PanelShape {
  /** The number of rows of a panel, a multiple of `height`. */
  readonly rows: number;
  /** The number of rows of a matrix. */
  readonly height: number;
  /** The number of groups of 16 bytes in a row of a panel. */
  readonly depth: number;
}

/** How many numbers a group of 16 bytes has. */
export const groupOf = (numbers: PanelNumbers) => numbers === "f16" ? 8 : 16;

/** The number of panels of an operand with `height` rows of so many groups. */
export function panelCount({ rows, depth }: PanelShape, height: number, groups: number): number {
  return Math.ceil(height / rows) * Math.ceil(groups / depth);
}

/** A short name of a shape of f16, for the names of kernels. */
export const panelName = ({ rows, height, depth }: PanelShape) => `${rows}x${8 * depth}by${height}`;

/** WGSL: the index, among all groups in all panels, of a group of a row. A row has `groups` of them. */
export const indexInPanels = (shape: PanelShape, row: string, group: string, groups: string): string =>
  `${rowInPanels(shape, row, groups)} + ${groupInPanels(shape, group)}`;

/** WGSL: the share of the row in {@link indexInPanels}. */
export function rowInPanels({ rows, height, depth }: PanelShape, row: string, groups: string): string {
  const band = `${row} / ${rows}u * ((${groups} + ${depth - 1}u) / ${depth}u) * ${rows * depth}u`;
  return `(${band} + ${row} % ${height}u * ${rows / height * depth}u + ${row} % ${rows}u / ${height}u * ${depth}u)`;
}

/** WGSL: the share of the group. */
export const groupInPanels = ({ rows, depth }: PanelShape, group: string): string =>
  `(${group} / ${depth}u * ${rows * depth}u + ${group} % ${depth}u)`;

/**
 * Packs an operand. A thread converts a group.
 *
 * @param format of the operand; "i8" is taken as it is
 */
export const packPanels = memo(
  ({ format, numbers, rows, height, depth }: PanelShape & { format: MatrixFormat; numbers: PanelNumbers }) => {
    const source = format.read.eight, counted = numbers === "f16" && source.counted;
    const reading = numbers === "i8" ? { element: "vec4u", declarations: "", group: (at: string) => `x[${at}]` } : {
      element: source.element,
      declarations: source.declare("x") +
        (counted ? noteClamped("inputs of matrix products") + source.halves("halves", NOTE) : source.halves("halves")),
      group: (at: string) => `halves(${source.read("x", at)})`,
    };
    const line = rows / height * depth;
    return perElement({
      name: `gemm_pack_${rows}x${groupOf(numbers) * depth}by${height}_${format}`,
      buffers: { x: read(reading.element), y: write("vec4u"), ...counted && clampedBuffer },
      params: u32s("rows", "groups"),
      declarations: reading.declarations,
      body: `  let panel = i / ${rows * depth}u;
  let panels = (p.groups + ${depth - 1}u) / ${depth}u;
  let at = i % ${rows * depth}u;
  let row = panel / panels * ${rows}u + at % ${line}u / ${depth}u * ${height}u + at / ${line}u;
  let group = panel % panels * ${depth}u + at % ${depth}u;
  var made = vec4u();
  if (row < p.rows && group < p.groups) { made = ${reading.group("row * p.groups + group")}; }
  y[i] = made;`,
    });
  },
);

/** Undoes it: a thread copies a group. */
export const unpackPanels = memo((shape: PanelShape) =>
  perElement({
    name: `gemm_unpack_${shape.rows}x${shape.depth}by${shape.height}`,
    buffers: { x: read("vec4u"), y: write("vec4u") },
    params: u32s("groups"),
    body: `  y[i] = x[${indexInPanels(shape, "(i / p.groups)", "(i % p.groups)", "p.groups")}];`,
  })
);
