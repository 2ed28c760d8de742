/**
 * Files that hold something for clips of several sizes, as routers and tiles: what was made for the nearest is used.
 *
 * @module
 */
import type { Grid } from "./grid.ts";

/** The prefix of the tensors of what such a file holds beside the first, by its number. */
export const othersPrefix = (number: number): string => `others.${number}.`;

/** A ratio of frames counts as its fourth root. */
const FRAMES_WEIGHT = 1 / 4;

/**
 * What was made for the size that is nearest to a grid; undefined if there is none.
 *
 * The distance is that of the logarithms of the ratios along the axes, of which frames count a quarter: sixteen times as
 * many are as far as a side of twice the length. Sides decide what a model does at a noise level, whatever the length
 * (Wan's flow shift is one for 480p and one for 720p), and how far attention reaches in a frame. A single picture of
 * 512x512 therefore takes what was made for clips of that size and not what was made for small clips, which are shorter.
 */
export function nearestSize<T extends { readonly grid: Grid }>(grid: Grid, sizes: readonly T[]): T | undefined {
  const distance = (size: T) =>
    size.grid.reduce((sum, n, axis) => sum + ((axis === 0 ? FRAMES_WEIGHT : 1) * Math.log(n / grid[axis]!)) ** 2, 0);
  return [...sizes].sort((a, b) => distance(a) - distance(b))[0];
}

/** A clause that says for which size a file's `things` were made, where that is another one; as a list. */
export function otherSizeNotes(
  things: string,
  name: string,
  grid: Grid,
  sizes: readonly { readonly grid: Grid }[],
): string[] {
  const nearest = nearestSize(grid, sizes)?.grid;
  if (!nearest || String(nearest) === String(grid)) return [];
  const all = sizes.length === 1 ? "were made" : `were made for ${sizes.length} sizes, of which the nearest is used:`;
  return [
    `the ${things} of ${name} ${all} for clips of ${nearest.join("x")} tokens, and this one has ${grid.join("x")}`,
  ];
}

/** What a file's metadata says of clips of one size. */
export interface NamedSize {
  readonly grid: Grid;
  /** The share of the first steps that have full attention, of routers. */
  readonly denseShare?: number;
}

/** The sizes of clips that are named in such a file's metadata, in the text for its kind; none if it is damaged. */
export function sizesIn(text = "{}"): readonly NamedSize[] {
  try {
    const { others = [], ...first } = JSON.parse(text) as Sizes & { readonly others?: readonly Sizes[] };
    const all = [first, ...others].flatMap(({ grid, grids = grid ? [grid] : [], dense_share: share }) =>
      grids.map((grid): NamedSize => ({ grid, ...typeof share === "number" && { denseShare: share } }))
    );
    return all.every(({ grid }) => Array.isArray(grid) && grid.every(Number.isInteger)) ? all : [];
  } catch {
    return [];
  }
}

/** Tiles have one size, routers may have several. */
interface Sizes {
  readonly grid?: Grid;
  readonly grids?: readonly Grid[];
  readonly dense_share?: unknown;
}
