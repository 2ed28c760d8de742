/**
 * Bucketed core-set selection (VORTA §3.2). The grid is cut into buckets, and only representatives of each take part in
 * attention.
 *
 * @module
 */
import type { Grid } from "../attention/grid.ts";
import type { VortaSettings } from "./settings.ts";

/** The buckets of a grid. */
export interface CoreSet {
  /** [buckets, tokens of a bucket], in raster order within a bucket */
  readonly members: Uint32Array<ArrayBuffer>;
  /** The number of tokens of a bucket. */
  readonly size: number;
  /** The position of the centre in a bucket. */
  readonly centre: number;
  /** How many tokens of a bucket are kept beside the centre. */
  readonly keep: number;
  /** Tokens at the grid's far borders that are in no whole bucket. They are always kept. */
  readonly rest: Uint32Array<ArrayBuffer>;
  /** The number of tokens that take part. */
  readonly kept: number;
}

/** Cuts a grid into buckets. */
export function coreSet(grid: Grid, { bucket, rate }: VortaSettings): CoreSet {
  const counts = grid.map((length, axis) => Math.floor(length / bucket[axis]!));
  const size = bucket[0] * bucket[1] * bucket[2], buckets = counts[0]! * counts[1]! * counts[2]!;
  const members = new Uint32Array(buckets * size), rest: number[] = [];
  for (let f = 0, token = 0; f < grid[0]; f++) {
    for (let r = 0; r < grid[1]; r++) {
      for (let c = 0; c < grid[2]; c++, token++) {
        const at = [f, r, c];
        const [bf, br, bc] = at.map((x, axis) => Math.floor(x / bucket[axis]!)) as unknown as Grid;
        if (bf >= counts[0]! || br >= counts[1]! || bc >= counts[2]!) rest.push(token);
        else {
          const [i, j, k] = at.map((x, axis) => x % bucket[axis]!) as unknown as Grid;
          members[((bf * counts[1]! + br) * counts[2]! + bc) * size + (i * bucket[1] + j) * bucket[2] + k] = token;
        }
      }
    }
  }
  const [f, h, w] = bucket;
  const keep = Math.floor(size * (1 - rate)) - 1;
  return {
    members,
    size,
    centre: Math.floor(f / 2) * h * w + Math.floor(h / 2) * w + Math.floor(w / 2),
    keep,
    rest: Uint32Array.from(rest),
    kept: buckets * (1 + keep) + rest.length,
  };
}
