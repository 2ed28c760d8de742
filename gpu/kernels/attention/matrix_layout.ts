import { unroll } from "../../kernel.ts";
import type { MatrixUnits } from "../../matrix_units.ts";

/** How a workgroup shares its work. */
export interface MatrixTile {
  readonly units: MatrixUnits;
  /**
   * The number of groups of subgroups side by side, and of subgroups in each. A group owns some queries. Each of its
   * subgroups computes the scores of a part of the keys, the softmax of a part of the queries, and a part of the
   * outputs' channels, so it needs fewer registers.
   */
  readonly subgroups: readonly [beside: number, sharing: number];
  /** The number of queries of a group. Each matrix of keys or values that is loaded is multiplied by all of them. */
  readonly rows: number;
  /** The number of keys of a step. */
  readonly keys: number;
  /**
   * What the products of scores are summed in. Their operands are f16, those of i32 sums are i8: they are rounded by row,
   * with a scale for each query and each key. f16 sums halve the memory that scores take.
   */
  readonly sums: "f32" | "f16" | "i32";
  /**
   * A group's queries pass their scores through workgroup memory in this many turns. More of them need less of it.
   */
  readonly turns: number;
  /** Keys and values have areas of their own in workgroup memory. Otherwise, they take turns in one. */
  readonly apart: boolean;
  /**
   * Weights are multiplied by their values one step later, beside the softmax of the next step: matrix units and
   * ordinary arithmetic then work at the same time. Needs values that are apart.
   */
  readonly delayed?: boolean;
}

/** The number of queries of a workgroup. */
export const matrixRows = ({ subgroups, rows }: Pick<MatrixTile, "subgroups" | "rows">): number => subgroups[0] * rows;

/** A short name of a tile, for the names of kernels and variants. */
export function matrixName({ subgroups, rows, keys, sums, turns, apart, delayed }: Omit<MatrixTile, "units">): string {
  const [beside, sharing] = subgroups;
  return [
    ...sums === "f32" ? [] : [sums],
    `${beside}x${rows}x${keys}`,
    ...sharing > 1 ? [`by ${sharing}`] : [],
    ...turns > 1 ? [`in ${turns}`] : [],
    ...apart ? ["apart"] : [],
    ...delayed ? ["delayed"] : [],
  ].join(" ");
}

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
  const { units, subgroups: [beside, sharing], rows: owned, keys, sums, turns, apart, delayed = false } = tile,
    { m, n, k, subgroup } = units;
  const i8 = sums === "i32", operands = i8 ? "i8" : "f16", depth = i8 ? units.int8!.k : k;
  const rows = matrixRows(tile), threads = beside * sharing * subgroup, bands = owned / m;
  /** The bytes of an operand of scores and of a unit of it, and the units of a row of keys, without and with padding. */
  const unit = i8 ? Math.min(16, depth) : 16, perKey = headDim * (i8 ? 1 : 2) / unit, keyWide = perKey + PAD / unit;
  const perValue = headDim / 8, valueWide = perValue + PAD / 16;
  /** The queries of a group whose scores are in workgroup memory at once, and the length of a row of these. */
  const passed = owned / turns, scoreBytes = sums === "f16" ? 2 : 4;
  const scoresWide = (scoreBytes * keys + (sums === "f16" ? PAD : PAD_SCORES)) / 16;
  /** A subgroup's share of a step's keys and of the outputs' channels, and of the queries of a turn. */
  const ownKeys = keys / sharing, channels = headDim / sharing, share = passed / sharing;
  /** The threads that share a query's softmax, and the queries whose softmax a subgroup computes at once. */
  const lanes = keys / 16, atOnce = subgroup / lanes;
  /** The area of scores holds queries in f16 at first, and is at least as wide as a matrix of them. */
  const scoresBytes = Math.max(beside * passed * scoresWide * 16, i8 ? 0 : rows * (k + 8) * 2);
  /** Channels of outputs that pass through workgroup memory at once, and their bytes. */
  const together = Math.min(keys * scoreBytes / 4, channels), outputBytes = passed * together * 4;
  /**
   * The size of the area of keys, and of that of values, or of the one area. In the end, outputs of all subgroups but the
   * first of each group pass through these: `inKeys` of them through that of keys, the rest through that of values.
   */
  const others = beside * (sharing - 1), ofKeys = keys * keyWide * unit, ofValues = keys * valueWide * 16;
  const valueBytes = Math.max(ofValues, unit < 16 ? others * outputBytes : 0);
  const left = others - (apart ? Math.floor(valueBytes / outputBytes) : 0);
  const stagedBytes = Math.max(ofKeys, apart ? 0 : ofValues, left * outputBytes);
  const inKeys = unit < 16 ? 0 : Math.min(others, Math.floor(stagedBytes / outputBytes));
  return {
    ...{ headDim, m, n, k, depth, subgroup, beside, sharing, owned, keys, rows, threads, sums, i8 },
    ...{ turns, apart, delayed },
    ...{ unit, unitType: unit === 16 ? "vec4u" : "vec2u", perKey, keyWide, perValue, valueWide },
    ...{
      passed,
      scoreBytes,
      scoresWide,
      ownKeys,
      channels,
      share,
      lanes,
      atOnce,
      rounds: share / atOnce,
      stagedBytes,
      valueBytes,
      scoresBytes,
      others,
      inKeys,
    },
    /** The matrices along a subgroup's queries, and of one turn. */
    ...{ bands: repeat(bands), bandsOf: bands / turns },
    together,
    left: `subgroup_matrix_left<f16, ${k}, ${m}>`,
    right: `subgroup_matrix_right<f16, ${n}, ${k}>`,
    result: `subgroup_matrix_result<f32, ${n}, ${m}>`,
    /** The same for scores. */
    query: `subgroup_matrix_left<${operands}, ${depth}, ${m}>`,
    key: `subgroup_matrix_right<${operands}, ${n}, ${depth}>`,
    score: `subgroup_matrix_result<${sums}, ${n}, ${m}>`,
    /** The bytes of workgroup memory. */
    bytes: stagedBytes + (apart ? valueBytes : 0) + scoresBytes + 8 * rows + 8 * keys + 4 +
      (i8 ? 4 * rows + 8 * keys : 0),
  };
}

/** Whether the shape of the units divides a tile, and a thread's numbers fit into its registers. */
export function matrixFits(tile: MatrixTile, headDim: number): boolean {
  const { units: { m, n, k, int8 }, keys, sums, apart } = tile, i8 = sums === "i32";
  if (i8 && !(int8 && int8.m === m && int8.n === n && (apart || int8.k >= 16))) return false;
  const { depth, passed, ownKeys, channels, share, atOnce, together, subgroup } = matrixLayout(tile, headDim);
  const sides = [
    ...[[passed, m], [ownKeys, n], [keys, k], [keys, 16], [channels, n], [headDim, depth], [share, atOnce]],
    ...[[channels, together], [together, n]],
  ] as const;
  return sides.every(([length, side]) => length! % side! === 0) && share * keys / subgroup <= 64;
}
