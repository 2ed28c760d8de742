import { unroll } from "../../kernel.ts";
import type { MatrixUnits } from "../../matrix_units.ts";

/** How a workgroup shares its work. */
export interface MatrixTile {
  readonly units: MatrixUnits;
  /**
   * The number of subgroups side by side, and of those that share queries. Each that shares computes the scores of a
   * part of the keys, and a part of the outputs' channels. More of them hide each other's waits, for each needs fewer
   * registers.
   */
  readonly subgroups: readonly [side: number, sharing: number];
  /** The number of queries of a subgroup. */
  readonly rows: number;
  /** The number of keys of a step. */
  readonly keys: number;
  /** Keys are read one step ahead, and values while scores are computed. Both wait in registers. */
  readonly ahead?: true;
}

/** The number of queries of a workgroup. */
export const matrixRows = ({ subgroups, rows }: MatrixTile): number => subgroups[0] * rows;

/** A short name of a tile, for the names of kernels and variants. */
export const matrixName = ({ subgroups, rows, keys, ahead }: Omit<MatrixTile, "units">): string =>
  `${subgroups.join("x")}_${rows}x${keys}${ahead ? "_ahead" : ""}`;

/** The padding of rows of f16 and of f32, so that neighbouring rows lie in different banks. */
export const PAD_F16 = 8, PAD_F32 = 8;
/** The threads that share a query's softmax. Each takes groups of eight scores, this many groups apart. */
export const LANES = 4;

/** Repeats WGSL, given the index of each repetition. */
type Repeat = (line: (i: number) => string) => string;
export const repeat = (count: number): Repeat => (line) => unroll(count, line);

/** The numbers that follow from a tile and a head dimension. */
export type MatrixLayout = ReturnType<typeof matrixLayout>;

/** Computes them. */
export function matrixLayout(tile: MatrixTile, headDim: number) {
  const { units: { m, n, k, subgroup }, subgroups: [beside, sharing], rows: owned, keys } = tile;
  const rows = matrixRows(tile), threads = beside * sharing * subgroup;
  const ownKeys = keys / sharing, channels = headDim / sharing;
  /** The size of the area where queries, and later keys and values, are staged. It is at least as wide as a matrix. */
  const stagedSize = Math.max(keys * (headDim + PAD_F16), rows * (k + PAD_F16));
  return {
    ...{ headDim, m, n, k, subgroup, sharing, owned, keys, rows, threads, stagedSize },
    /** The matrices along a subgroup's queries. */
    bands: repeat(owned / m),
    /** A subgroup's share of a step's keys and of the outputs' channels, and its products along these channels. */
    ...{ ownKeys, channels, across: channels / n },
    /** The length of a row of each area. */
    ...{ stagedWide: (headDim + PAD_F16) / 8, scoresWide: (keys + PAD_F32) / 4, weightsWide: (keys + PAD_F16) / 8 },
    /** The queries whose softmax a subgroup computes at once, and the rounds that its share of queries takes. */
    ...{ atOnce: subgroup / LANES, rounds: repeat(owned / sharing * LANES / subgroup) },
    /** The groups of eight scores of a thread in each round. */
    eights: keys / LANES / 8,
    left: `subgroup_matrix_left<f16, ${k}, ${m}>`,
    right: `subgroup_matrix_right<f16, ${n}, ${k}>`,
    result: `subgroup_matrix_result<f32, ${n}, ${m}>`,
    /** The bytes of workgroup memory. */
    bytes: stagedSize * 2 + rows * (keys + PAD_F32) * 4 + rows * (keys + PAD_F16) * 2 + keys * 8 + 4,
  };
}
