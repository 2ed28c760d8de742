import type { TiledGrid } from "../attention/tiles.ts";

/** The keep ratio if neither the user nor the model gives one. */
export const DEFAULT_KEEP = 0.1;
/**
 * If no ratio is given, each query tile attends to at least this many tiles: where there are few, each covers much of
 * the clip. The demo model's clips of 128×128 have 16 tiles: keeping 8 leaves visible defects, keeping 12 does not.
 */
export const LEAST_TILES = 12;

/**
 * The keep ratio of a grid if none is given.
 *
 * @param usual the ratio that the scores were trained for
 */
export function defaultKeep(usual: number, tokens: number, capacity: number): number {
  return Math.min(1, Math.max(usual, LEAST_TILES / Math.ceil(tokens / capacity)));
}

/**
 * The number of key tiles of each query tile, its own included. Over whole tiles, full attention would take n_ideal²
 * pairs of tiles, n_ideal = ⌈tokens / capacity⌉. A share ρ of them is spread evenly over the n rows, so that padding
 * adds no work. The remainder of the division goes to the rows where its running sum passes an integer.
 *
 * @param keep ρ, above 0; from 1 on, every tile is kept
 */
export function budget(
  keep: number,
  { tokens, capacity, tiles }: Pick<TiledGrid, "tokens" | "capacity" | "tiles">,
): number[] {
  const n = tiles.length;
  const perRow = keep * Math.ceil(tokens / capacity) ** 2 / n;
  if (keep >= 1 || perRow >= n) return Array.from({ length: n }, () => n);
  const low = Math.max(1, Math.floor(perRow)), high = Math.min(low + 1, n);
  // Rounded, so that the inexactness of binary fractions does not change which rows get one tile more.
  const fraction = Number(Math.max(perRow - low, 0).toFixed(12));
  return Array.from(
    { length: n },
    (_, row) => Math.floor((row + 1) * fraction) > Math.floor(row * fraction) ? high : low,
  );
}

/**
 * The pairs of queries and keys that are multiplied under a budget. Each row's own tile counts with its exact size. The
 * other tiles, which only the GPU knows, count with the mean size of the rest; that is exact if no tile is partial.
 */
export function keptPairs(keep: readonly number[], { tokens, tiles }: Pick<TiledGrid, "tokens" | "tiles">): number {
  const others = tiles.length - 1;
  return tiles.reduce((sum, { count }, row) => {
    const rest = others > 0 ? (keep[row]! - 1) * (tokens - count) / others : 0;
    return sum + count * (count + rest);
  }, 0);
}
