import { type Grid, perAxis, product, rasterIndex } from "../attention/grid.ts";
import { type TokenLayout, validTokens } from "../attention/layout.ts";
import type { VortaSettings } from "./settings.ts";

/** The buckets of a layout. */
export interface CoreSet {
  /** [buckets, tokens of a bucket], in raster order within a bucket */
  readonly members: Uint32Array<ArrayBuffer>;
  /** The number of tokens of a bucket. */
  readonly size: number;
  /** The position of the centre in a bucket. */
  readonly centre: number;
  /** How many tokens of a bucket are kept beside the centre. */
  readonly keep: number;
  /** Tokens in no bucket, which always take part: of known frames, at the grid's far borders, and the valid kept ones. */
  readonly rest: Uint32Array<ArrayBuffer>;
  /** The number of tokens that take part. */
  readonly slots: number;
}

/** Bucketed core-set selection (VORTA §3.2): a grid is cut into buckets, and only representatives of each take part. */
export function coreSet(layout: TokenLayout, { bucket, rate }: VortaSettings): CoreSet {
  const { grid, known = 0 } = layout, first = [known, 0, 0] as const;
  const counts = perAxis((axis) => Math.floor((grid[axis] - first[axis]) / bucket[axis]));
  const size = product(bucket), buckets = product(counts);
  const members = new Uint32Array(buckets * size), rest: number[] = [];
  // A token's place in `members` is the sum of what each of its positions adds; undefined in no bucket.
  const steps: Grid = [counts[1] * counts[2], counts[2], 1], inner: Grid = [bucket[1] * bucket[2], bucket[2], 1];
  const added = ([0, 1, 2] as const).map((axis) =>
    Array.from({ length: grid[axis] }, (_, at) => {
      const from = at - first[axis], own = Math.floor(from / bucket[axis]), within = from % bucket[axis];
      return own < 0 || own >= counts[axis] ? undefined : own * steps[axis] * size + within * inner[axis];
    })
  );
  let next = 0;
  for (const frame of added[0]!) {
    for (const row of added[1]!) {
      for (const column of added[2]!) {
        const token = next++;
        if (frame === undefined || row === undefined || column === undefined) rest.push(token);
        else members[frame + row + column] = token;
      }
    }
  }
  for (let token = product(grid); token < validTokens(layout); token++) rest.push(token);
  const keep = Math.floor(size * (1 - rate)) - 1;
  return {
    members,
    size,
    centre: rasterIndex(bucket, perAxis((axis) => Math.floor(bucket[axis] / 2))),
    keep,
    rest: Uint32Array.from(rest),
    slots: buckets * (1 + keep) + rest.length,
  };
}
