/**
 * Video sparse attention by its definition, in float64.
 *
 * @module
 */
import { product } from "../../../model/attention/grid.ts";
import { type TokenLayout, validTokens } from "../../../model/attention/layout.ts";
import { tileGrid } from "../../../model/attention/tiles.ts";
import { attend } from "../../reference_attention.ts";

type Numbers = ArrayLike<number>;

/** Sizes. */
export interface VsaReference {
  readonly layout: TokenLayout;
  readonly batch: number;
  readonly heads: number;
  readonly headDim: number;
  readonly sparsity: number;
}

/**
 * sparse + gate · coarse of q, k and v, [batch, tokens, heads · head dim]; 0 where there is padding. Kept tokens see all
 * and are seen by all, and have no coarse part.
 */
export function vsaReference(
  q: Numbers,
  k: Numbers,
  v: Numbers,
  gate: Numbers | undefined,
  r: VsaReference,
): Float64Array {
  const { layout, batch, heads, headDim, sparsity } = r, { grid } = layout;
  const { order, tiles } = tileGrid(grid, [4, 4, 4]), tokens = product(grid) + layout.kept, valid = validTokens(layout);
  const n = tiles.length, keep = Math.max(1, Math.ceil((1 - sparsity) * n));
  const members = tiles.map(({ first, count }) => [...order.subarray(first, first + count)]);
  const tileOf = new Map(members.flatMap((list, tile) => list.map((token) => [token, tile])));
  const at = (b: number, token: number, h: number) => ((b * tokens + token) * heads + h) * headDim;
  const means = (x: Numbers, b: number, h: number) =>
    members.map((list) =>
      Array.from({ length: headDim }, (_, d) => list.reduce((sum, t) => sum + x[at(b, t, h) + d]!, 0) / list.length)
    );
  const kept = new Map<number, Set<number>[]>(), coarse = new Map<number, number[][]>();
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const [meanQ, meanK, meanV] = [means(q, b, h), means(k, b, h), means(v, b, h)];
      const scores = meanQ.map((x) =>
        meanK.map((y) => x.reduce((sum, value, d) => sum + value * y[d]!, 0) / Math.sqrt(headDim))
      );
      kept.set(
        b * heads + h,
        scores.map((row) => new Set([...row.keys()].sort((i, j) => row[j]! - row[i]! || i - j).slice(0, keep))),
      );
      coarse.set(
        b * heads + h,
        scores.map((row) => {
          const e = row.map((score) => Math.exp(score - Math.max(...row))), sum = e.reduce((a, c) => a + c);
          return Array.from({ length: headDim }, (_, d) => e.reduce((y, p, j) => y + p / sum * meanV[j]![d]!, 0));
        }),
      );
    }
  }
  const sees = (b: number, h: number, i: number, j: number) => {
    if (i >= valid) return true;
    if (j >= valid) return false;
    const own = tileOf.get(i), other = tileOf.get(j);
    return own === undefined || other === undefined || kept.get(b * heads + h)![own]!.has(other);
  };
  const y = attend(q, k, v, { batch, queries: tokens, keys: tokens, heads, headDim, sees });
  for (let b = 0; b < batch; b++) {
    for (let token = 0; token < tokens; token++) {
      for (let h = 0; h < heads; h++) {
        const tile = tileOf.get(token), place = at(b, token, h);
        for (let d = 0; d < headDim; d++) {
          if (token >= valid) y[place + d] = 0;
          else if (gate && tile !== undefined) {
            y[place + d]! += gate[place + d]! * coarse.get(b * heads + h)![tile]![d]!;
          }
        }
      }
    }
  }
  return y;
}
