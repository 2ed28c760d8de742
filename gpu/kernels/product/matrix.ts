/**
 * Products by matrix units (see `matrix_units.ts`). Operands are staged in f16, row by row; sums are f32.
 *
 * @module
 */
import { unroll } from "../../kernel.ts";
import type { MatrixUnits } from "../../matrix_units.ts";
import { type Product, TILE_ORDER } from "./product.ts";

/** How a workgroup shares a tile of outputs, counted in products of the matrix units. */
export interface MatrixTile {
  /** The number of subgroups along m and n. */
  readonly subgroups: readonly [m: number, n: number];
  /** The number of products that a subgroup computes along m and n. */
  readonly units: readonly [m: number, n: number];
  /** The length of the inner axis that is staged at once. */
  readonly depth: number;
  /** Whether a step's operands are read while those of the previous one are multiplied, at the cost of registers. */
  readonly ahead: boolean;
  /**
   * The operands were converted to f16 before, by a separate kernel. Many workgroups read each operand: they now read
   * half as much and convert nothing. Operands of a matrix product are also stored in panels (see `gemm/pack.ts`).
   */
  readonly packed?: true;
}

/** How a kernel multiplies by matrix units. */
export interface MatrixBy {
  readonly tile: MatrixTile;
  readonly units: MatrixUnits;
}

/** The outputs of a workgroup along m and n. */
export function matrixTileSize({ subgroups, units }: MatrixTile, { m, n }: MatrixUnits): readonly [number, number] {
  return [subgroups[0] * units[0] * m, subgroups[1] * units[1] * n];
}

/** The invocations of a workgroup. */
export function matrixTileThreads({ subgroups }: MatrixTile, { subgroup }: MatrixUnits): number {
  return subgroups[0] * subgroups[1] * subgroup;
}

/**
 * The distance between staged rows, in units of 16 bytes. It is padded by one, so that neighbours lie in different
 * banks.
 */
const rowOf = (depth: number, { k }: MatrixUnits) => depth * k / 8 + 1;

/**
 * WGSL: the row of the i-th group of eight that is staged, and its position among the `perRow` groups of the row. Eight
 * neighbouring threads stage the same position of eight rows. These lie in different banks, while the positions of one
 * row and the next do not.
 */
export function stagedPosition(perRow: number, i: string): readonly [row: string, position: string] {
  return [`(${i} / ${8 * perRow}u * 8u + ${i} % 8u)`, `(${i} / 8u % ${perRow}u)`];
}

/**
 * The bytes of workgroup memory that a tile uses. There is one row more than is staged, because loads count whole rows
 * from their starting point.
 */
export function matrixTileBytes(tile: MatrixTile, units: MatrixUnits): number {
  const [m, n] = matrixTileSize(tile, units);
  return 16 * rowOf(tile.depth, units) * (m + n + 1);
}

/** A short name of a tile, for the names of kernels and variants. */
export function matrixTileName({ subgroups, units, depth, ahead, packed }: MatrixTile): string {
  const options = `${ahead ? "_ahead" : ""}${packed ? "_packed" : ""}`;
  return `matrix_${subgroups.join("x")}_${units.join("x")}_${depth}${options}`;
}

/** A product whose elements are groups of eight numbers along the inner axis. */
export interface MatrixProduct extends Product {
  /** WGSL functions that convert an element of x or w, as it was read, to eight f16 in a vec4u. */
  readonly halves: readonly [x: string, w: string];
}

/** The parts of a kernel that a product by matrix units supplies. */
export function matrixProduct(tile: MatrixTile, unit: MatrixUnits, product: MatrixProduct) {
  const { subgroups, units, ahead } = tile, { loader } = product;
  const [tileM, tileN] = matrixTileSize(tile, unit), row = rowOf(tile.depth, unit);
  const { at, x, w, read, convert, stage } = staging(tile, unit, product);
  return {
    matrix: true,
    workgroupSize: [matrixTileThreads(tile, unit), 1, 1] as const,
    declarations: `
var<workgroup> staged: array<vec4u, ${matrixTileBytes(tile, unit) / 16}>;`,
    body: `${TILE_ORDER}
  let m0 = wid_m * ${tileM}u;
  let n0 = wid_n * ${tileN}u;
  let subgroup = li / ${unit.subgroup}u;
  let subgroup_m = subgroup / ${subgroups[1]}u * ${units[0] * unit.m}u;
  let subgroup_n = subgroup % ${subgroups[1]}u * ${units[1] * unit.n}u;
  let x_staged = subgroup_m * ${row}u;
  let w_staged = (${tileM}u + subgroup_n) * ${row}u;
${each(tile, (i, j) => `  var c${i}_${j}: subgroup_matrix_result<f32, ${unit.n}, ${unit.m}>;`)}
${unroll(x.each, (i) => `  var x${i}: vec4u;`)}
${unroll(w.each, (i) => `  var w${i}: vec4u;`)}
  let x_at = ${at};
  let w_at = x_at;
${loader.begin(x.rows, w.rows)}
${ahead ? `  {\n${read}\n${convert}\n  }` : ""}
  for (var done = 0u; done < ${loader.steps}; done++) {
${ahead ? "" : `${read}\n${convert}`}
    workgroupBarrier();
${stage}
    workgroupBarrier();
${loader.next(x.each)}
${ahead ? read : ""}
${multiply(tile, unit)}
${ahead ? convert : ""}
  }
${storeSums(tile, unit, product)}`,
  };
}

/** Repeats WGSL for each product of a subgroup. */
const each = ({ units }: MatrixTile, visit: (i: number, j: number) => string) =>
  unroll(units[0], (i) => unroll(units[1], (j) => visit(i, j)));

/** How a step's operands get into workgroup memory. */
function staging(tile: MatrixTile, unit: MatrixUnits, { loader, elements, halves }: MatrixProduct) {
  const count = matrixTileThreads(tile, unit), perRow = tile.depth * unit.k / 8, row = rowOf(tile.depth, unit);
  const [tileM, tileN] = matrixTileSize(tile, unit);
  // A thread's other elements have the same position in later rows. An operand whose rows are longer than a tile is
  // read fastest along its rows.
  const [firstRow, at] = tile.packed ? stagedPosition(perRow, "li") : [`li / ${perRow}u`, `li % ${perRow}u`];
  const side = (height: number) => {
    const groups = height * perRow, each = Math.ceil(groups / count);
    const rows = Array.from({ length: each }, (_, i) => `(${firstRow} + ${i * count / perRow}u)`);
    const guard = (i: number, code: string) =>
      (i + 1) * count > groups ? `    if (li + ${i * count}u < ${groups}u) { ${code} }` : `    ${code}`;
    return { rows, each, guard };
  };
  const x = side(tileM), w = side(tileN);
  const slot = (first: number, at: string) => `staged[${first}u + ${at} * ${row}u + x_at]`;
  return {
    /** WGSL: the position of a thread's elements along the inner axis. */
    at,
    /** The rows of a thread's elements, and how many these are. */
    ...{ x, w },
    read: `${unroll(x.each, (i) => `    var next_x${i}: ${elements[0]};`)}
${unroll(w.each, (i) => `    var next_w${i}: ${elements[1]};`)}
${unroll(x.each, (i) => x.guard(i, `next_x${i} = ${loader.x(i)};`))}
${unroll(w.each, (i) => w.guard(i, `next_w${i} = ${loader.w(i)};`))}`,
    /** Converts them to f16, which may wait: it needs what was read. */
    convert: `${unroll(x.each, (i) => `    x${i} = select(vec4u(), ${halves[0]}(next_x${i}), ${loader.inside(i)});`)}
${unroll(w.each, (i) => `    w${i} = ${halves[1]}(next_w${i});`)}`,
    stage: `${unroll(x.each, (i) => x.guard(i, `${slot(0, x.rows[i]!)} = x${i};`))}
${unroll(w.each, (i) => w.guard(i, `${slot(tileM * row, w.rows[i]!)} = w${i};`))}`,
  };
}

/** Multiplies the staged operands. */
function multiply(tile: MatrixTile, unit: MatrixUnits): string {
  const { units, depth } = tile, row = rowOf(depth, unit);
  const left = `subgroup_matrix_left<f16, ${unit.k}, ${unit.m}>`;
  const right = `subgroup_matrix_right<f16, ${unit.n}, ${unit.k}>`;
  const at = (rows: number, k: number) => `${rows * row + k * unit.k / 8}u, ${row}u`;
  const load = (name: string, type: string, order: string, from: string) =>
    `      let ${name} = subgroupMatrixLoad<${type}, ${order}>(&staged, ${from});`;
  return unroll(depth, (k) =>
    `    {
${unroll(units[0], (i) => load(`l${i}`, left, "row_major", `x_staged + ${at(i * unit.m, k)}`))}
${unroll(units[1], (j) => load(`r${j}`, right, "col_major", `w_staged + ${at(j * unit.n, k)}`))}
${each(tile, (i, j) => `      c${i}_${j} = subgroupMatrixMultiplyAccumulate(l${i}, r${j}, c${i}_${j});`)}
    }`);
}

/**
 * Hands the sums to `store`. WGSL cannot read single numbers of a matrix, so a subgroup's sums pass through the staging
 * area, in strips of products, each as wide as fits.
 */
function storeSums(tile: MatrixTile, unit: MatrixUnits, { store }: MatrixProduct): string {
  const { subgroups, units } = tile, area = matrixTileBytes(tile, unit) / 16;
  const strip = Array.from({ length: units[1] }, (_, i) => units[1] - i).find((wide) =>
    units[1] % wide === 0 && (subgroups[0] * subgroups[1] * unit.m + 1) * wide * unit.n / 4 <= area
  )!;
  const wide = strip * unit.n / 4, vectors = unit.m * wide;
  const at = (j: number) => `mine + ${j * unit.n / 4}u`;
  const storeStrip = (i: number, s: number) =>
    `  workgroupBarrier();
${unroll(strip, (j) => `  subgroupMatrixStore<row_major>(&staged, ${at(j)}, c${i}_${s * strip + j}, ${wide}u);`)}
  workgroupBarrier();
  for (var at = li % ${unit.subgroup}u; at < ${vectors}u; at += ${unit.subgroup}u) {
    ${
      store(
        `m0 + subgroup_m + ${i * unit.m}u + at / ${wide}u`,
        `n0 + subgroup_n + ${s * strip * unit.n}u + at % ${wide}u * 4u`,
        "bitcast<vec4f>(staged[mine + at])",
      )
    }
  }`;
  return `  let mine = subgroup * ${vectors}u;
${unroll(units[0], (i) => unroll(units[1] / strip, (s) => storeStrip(i, s)))}`;
}
