import { unroll } from "../../kernel.ts";
import type { MatrixUnits } from "../../matrix_units.ts";

/** How a workgroup shares its work. */
export interface MatrixTile {
  readonly units: MatrixUnits;
  /** The number of subgroups. Each owns some queries. */
  readonly subgroups: number;
  /** The number of queries of a subgroup. Each matrix of keys or values that it loads is multiplied by all of them. */
  readonly rows: number;
  /** The number of keys of a step. */
  readonly keys: number;
  /**
   * What scores are made of: f16 operands with f32 sums, or int8 operands with exact sums. These are rounded by row,
   * with a scale for each query and each key.
   */
  readonly operands: "f16" | "i8";
  /**
   * A subgroup's queries pass their scores through workgroup memory in this many turns. More of them need less of it.
   */
  readonly turns: number;
  /** Keys and values have areas of their own in workgroup memory. Otherwise, they take turns in one. */
  readonly apart: boolean;
}

/** The number of queries of a workgroup. */
export const matrixRows = ({ subgroups, rows }: Pick<MatrixTile, "subgroups" | "rows">): number => subgroups * rows;

/** A short name of a tile, for the names of kernels and variants. */
export const matrixName = ({ subgroups, rows, keys, operands, turns, apart }: Omit<MatrixTile, "units">): string =>
  `${operands === "i8" ? "i8 " : ""}${subgroups}x${rows}x${keys}${turns > 1 ? ` in ${turns}` : ""}${
    apart ? " apart" : ""
  }`;

/** The padding of rows in workgroup memory, in bytes, so that neighbouring rows lie in different banks. */
const PAD = 16, PAD_SCORES = 32;

/** Repeats WGSL, given the index of each repetition. */
type Repeat = (line: (i: number) => string) => string;
export const repeat = (count: number): Repeat => (line) => unroll(count, line);

/** The numbers that follow from a tile and a head dimension. */
export type MatrixLayout = ReturnType<typeof matrixLayout>;

/**
 * Computes them. Workgroup memory is counted in units of 16 bytes: eight f16, four f32 or i32, sixteen i8. Small
 * matrices of i8 have rows of 8 bytes; then keys are counted in these.
 */
export function matrixLayout(tile: MatrixTile, headDim: number) {
  const { units, subgroups, rows: owned, keys, operands, turns, apart } = tile, { m, n, k, subgroup } = units;
  const i8 = operands === "i8", depth = i8 ? units.int8!.k : k;
  const rows = matrixRows(tile), threads = subgroups * subgroup, bands = owned / m;
  /** The bytes of an operand of scores and of a unit of it, and the units of a row of keys, without and with padding. */
  const unit = i8 ? Math.min(16, depth) : 16, perKey = headDim * (i8 ? 1 : 2) / unit, keyWide = perKey + PAD / unit;
  const perValue = headDim / 8, valueWide = perValue + PAD / 16;
  /** The queries of a subgroup whose scores are in workgroup memory at once, and the length of a row of these. */
  const passed = owned / turns, scoresWide = (4 * keys + PAD_SCORES) / 16;
  /** The threads that share a query's softmax, and the queries whose softmax a subgroup computes at once. */
  const lanes = keys / 16, atOnce = subgroup / lanes;
  /**
   * The size of the area of keys, and of that of values, or of the one area. It holds queries in f16 at first, and is at
   * least as wide as a matrix of them.
   */
  const keyBytes = keys * keyWide * unit, valueBytes = keys * valueWide * 16;
  const queryBytes = i8 ? 0 : rows * (k + 8) * 2;
  const stagedBytes = Math.max(keyBytes, queryBytes, apart ? 0 : valueBytes);
  return {
    ...{ headDim, m, n, k, depth, subgroup, subgroups, owned, keys, rows, threads, i8, turns, apart },
    ...{ unit, unitType: unit === 16 ? "vec4u" : "vec2u", perKey, keyWide, perValue, valueWide },
    ...{ passed, scoresWide, lanes, atOnce, rounds: passed / atOnce, stagedBytes, valueBytes },
    /** The matrices along a subgroup's queries, and of one turn. */
    ...{ bands: repeat(bands), bandsOf: bands / turns },
    /** Channels that pass through the area of scores at once. */
    together: Math.min(keys, headDim),
    left: `subgroup_matrix_left<f16, ${k}, ${m}>`,
    right: `subgroup_matrix_right<f16, ${n}, ${k}>`,
    result: `subgroup_matrix_result<f32, ${n}, ${m}>`,
    /** The same for scores. */
    query: `subgroup_matrix_left<${operands}, ${depth}, ${m}>`,
    key: `subgroup_matrix_right<${operands}, ${n}, ${depth}>`,
    score: `subgroup_matrix_result<${i8 ? "i32" : "f32"}, ${n}, ${m}>`,
    /** The bytes of workgroup memory. */
    bytes: stagedBytes + (apart ? valueBytes : 0) + subgroups * passed * scoresWide * 16 + 4 * rows + 8 * keys + 4 +
      (i8 ? 4 * rows + 8 * keys : 0),
  };
}

/** Whether the shape of the units divides a tile, and a thread's numbers fit into its registers. */
export function matrixFits(tile: MatrixTile, headDim: number): boolean {
  const { units: { m, n, k, subgroup, int8 }, rows, keys, operands, turns } = tile;
  if (operands === "i8" && !(int8 && int8.m === m && int8.n === n && (tile.apart || int8.k >= 16))) return false;
  const depth = operands === "i8" ? int8!.k : k, passed = rows / turns, atOnce = subgroup * 16 / keys;
  const sides = [
    ...[[passed, m], [keys, n], [keys, k], [keys, 16], [headDim, n], [headDim, depth], [passed, atOnce]] as const,
    [headDim, Math.min(keys, headDim)] as const,
  ];
  return sides.every(([length, side]) => length % side === 0) && passed * keys / subgroup <= 64;
}
