/**
 * How workgroups compute products of panels (see `pack.ts`) by matrix units: the sizes of tiles, and where the operands
 * lie in workgroup memory.
 *
 * @module
 */
import { type MatrixShape, type MatrixUnits, shapeOf } from "../../matrix_units.ts";
import type { PanelNumbers, PanelShape } from "./pack.ts";

/** How a workgroup shares a tile of outputs, counted in products of the matrix units. */
export interface PanelTile {
  /** The number of subgroups along m and n. */
  readonly subgroups: readonly [m: number, n: number];
  /** The number of products that a subgroup computes along m and n. */
  readonly units: readonly [m: number, n: number];
  /** The length of the inner axis that is staged at once. */
  readonly depth: number;
}

/** How a kernel multiplies panels. */
export interface PanelBy {
  readonly tile: PanelTile;
  readonly units: MatrixUnits;
  readonly numbers: PanelNumbers;
}

/** The sizes of a tile on a device. */
export interface PanelLayout {
  readonly unit: MatrixShape;
  readonly threads: number;
  /** The outputs of a workgroup along m and n, which are the rows of a panel of x and of w. */
  readonly tile: readonly [m: number, n: number];
  /** The WGSL type of what a thread stages at once, and how many of them a group of 16 bytes has. */
  readonly element: "vec4u" | "vec2u";
  readonly perGroup: number;
  /** In elements: a row of a matrix; a row of a panel; */
  readonly matrixRow: number;
  readonly panelRow: number;
  /** and the distances between staged rows of a matrix of x and of w, */
  readonly strides: readonly [x: number, w: number];
  /** where w's begin, and how many are staged for one step. */
  readonly wFirst: number;
  readonly staged: number;
  /** The strips in which a subgroup's sums pass through workgroup memory: in products, and in vec4s from row to row. */
  readonly strip: number;
  readonly stripStride: number;
  /** The elements of workgroup memory. */
  readonly elements: number;
  readonly bytes: number;
}

/** Gaps in vec4s between the rows of a strip, which put neighbouring rows in different banks. */
const STRIP_GAP = 2;

/** The sizes of a tile. Undefined where the device has no matrix units for these numbers, or the tile is too shallow. */
export function panelLayout({ tile, units, numbers }: PanelBy): PanelLayout | undefined {
  const unit = shapeOf(units, numbers);
  if (!unit) return undefined;
  const { subgroups: [alongM, alongN], units: [unitsM, unitsN], depth } = tile;
  const rowBytes = unit.k * (numbers === "f16" ? 2 : 1), element = rowBytes % 16 === 0 ? "vec4u" : "vec2u";
  if (depth * rowBytes % 16 !== 0) return undefined;
  const bytes = element === "vec4u" ? 16 : 8, matrixRow = rowBytes / bytes, panelRow = depth * matrixRow;
  // A gap of one element between the rows of a matrix puts neighbours in different banks.
  const strides = [alongM * unitsM * panelRow + 1, alongN * unitsN * panelRow + 1] as const;
  const wFirst = unit.m * strides[0], staged = Math.ceil((wFirst + unit.n * strides[1] - 1) / 2) * 2;
  const subgroups = alongM * alongN, perGroup = 16 / bytes;
  const strideOf = (strip: number) => strip * unit.n / 4 + STRIP_GAP;
  const stripElements = (strip: number) => subgroups * unit.m * strideOf(strip) * perGroup;
  // So that a thread has the same columns in all rows of a strip.
  const covers = (strip: number) => unitsN % strip === 0 && units.subgroup % (strip * unit.n / 4) === 0;
  const strips = Array.from({ length: unitsN }, (_, i) => unitsN - i).filter(covers);
  const strip = strips.find((strip) => stripElements(strip) <= staged) ?? 1;
  const elements = Math.max(staged, stripElements(strip));
  return {
    ...{ unit, threads: subgroups * units.subgroup, element, perGroup, matrixRow, panelRow, strides, wFirst, staged },
    ...{ tile: [alongM * unitsM * unit.m, alongN * unitsN * unit.n], strip, stripStride: strideOf(strip) },
    ...{ elements, bytes: elements * bytes },
  };
}

/** The panels of the operands of a tile. */
export function panelShapes(layout: PanelLayout): Readonly<Record<"x" | "w", PanelShape>> {
  const { tile, unit, panelRow, perGroup } = layout, depth = panelRow / perGroup;
  return { x: { rows: tile[0], height: unit.m, depth }, w: { rows: tile[1], height: unit.n, depth } };
}

/** A short name of a tile, for the names of kernels and variants. */
export function panelTileName(tile: PanelTile, numbers: PanelNumbers): string {
  const { subgroups, units, depth } = tile;
  return `panels_${numbers}_${subgroups.join("x")}_${units.join("x")}_${depth}`;
}
