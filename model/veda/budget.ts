/**
 * How many key tiles each query tile keeps.
 *
 * @module
 */
import type { Tiling } from "./tiling.ts";

/** The keep ratio that nothing else is said about. */
export const DEFAULT_KEEP = 0.1;
/**
 * Where no ratio is asked for, each query tile sees at least so many: of few tiles each stands for much of the clip.
 * The demo model's clips of 128×128 have 16 tiles, and show what 8 of them leave out, but not what 12 do.
 */
export const LEAST_TILES = 12;

/**
 * The keep ratio of a grid where none is asked for.
 *
 * @param usual the ratio that scores were trained for
 */
export function defaultKeep(usual: number, tokens: number, capacity: number): number {
  return Math.min(1, Math.max(usual, LEAST_TILES / Math.ceil(tokens / capacity)));
}

/**
 * The key tiles of each query tile, its own among them. Over whole tiles full attention would take n_ideal² pairs of
 * tiles, n_ideal = ⌈tokens / capacity⌉; a share ρ of them is spread evenly over the n rows there are, so that padding
 * buys nothing. What is left of the division goes to the rows where its sum passes a whole number.
 *
 * @param keep ρ, above 0; from 1 on every tile is kept
 */
export function budget(
  keep: number,
  { tokens, capacity, tiles }: Pick<Tiling, "tokens" | "capacity" | "tiles">,
): number[] {
  const n = tiles.length;
  const perRow = keep * Math.ceil(tokens / capacity) ** 2 / n;
  if (keep >= 1 || perRow >= n) return Array.from({ length: n }, () => n);
  const low = Math.max(1, Math.floor(perRow)), high = Math.min(low + 1, n);
  // Rounded, so that what binary fractions are off by does not move a row's turn.
  const fraction = Number(Math.max(perRow - low, 0).toFixed(12));
  return Array.from(
    { length: n },
    (_, row) => Math.floor((row + 1) * fraction) > Math.floor(row * fraction) ? high : low,
  );
}

/**
 * Pairs of queries and keys that are multiplied under a budget. Each row's own tile is counted as it is, the others it
 * keeps, which only the GPU knows, as tiles of the mean size of the rest: exact where no tile is partial.
 */
export function keptPairs(keep: readonly number[], { tokens, tiles }: Pick<Tiling, "tokens" | "tiles">): number {
  const others = tiles.length - 1;
  return tiles.reduce((sum, { count }, row) => {
    const rest = others > 0 ? (keep[row]! - 1) * (tokens - count) / others : 0;
    return sum + count * (count + rest);
  }, 0);
}
