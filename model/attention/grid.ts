/** Numbers of tokens along frames, rows and columns: a latent video's grid, a position in it, or the size of a part. */
export type Grid = readonly [frames: number, rows: number, columns: number];

/**
 * @param shape [batch, channels, frames, height, width] of the latents
 * @param patch the latent frames, rows and columns of one token
 */
export function gridOf(shape: readonly number[], patch: Grid): Grid {
  const grid = perAxis((axis) => shape[axis + 2]! / patch[axis]);
  if (!grid.every(Number.isInteger)) throw new RangeError(`latents [${shape}] cannot be cut into patches of ${patch}`);
  return grid;
}

/** Computes a number for each axis. */
export function perAxis(of: (axis: 0 | 1 | 2) => number): Grid {
  return [of(0), of(1), of(2)];
}

/** The number of tokens of a grid. */
export function product([frames, rows, columns]: Grid): number {
  return frames * rows * columns;
}

/** The number of parts that a grid is cut into along each axis. The last ones may be cut off by the grid. */
export function partCounts(grid: Grid, part: Grid): Grid {
  return perAxis((axis) => Math.ceil(grid[axis] / part[axis]));
}

/** All positions of a grid in raster order. */
export function raster(grid: Grid): Grid[] {
  const [, rows, columns] = grid;
  return Array.from({ length: product(grid) }, (_, i) => [
    Math.floor(i / (rows * columns)),
    Math.floor(i / columns) % rows,
    i % columns,
  ]);
}

/** The index of a position in raster order. */
export function rasterIndex([, rows, columns]: Grid, [f, r, c]: Grid): number {
  return (f * rows + r) * columns + c;
}
