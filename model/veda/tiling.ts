/**
 * Veda's tiles: the shapes that there are, and a grid cut by one of them.
 *
 * @module
 */
import { TilereelError } from "../../errors.ts";
import { type TileOrder, tileOrder } from "../attention/tile_order.ts";
import type { Grid } from "../wan/grid.ts";

/** Tokens of a tile along frames, rows and columns. */
export type TileShape = Grid;

/** A grid cut into tiles of one shape. Tiles at the far borders may be partial; none is empty. */
export interface Tiling extends TileOrder {
  readonly shape: TileShape;
  readonly tokens: number;
  /** Tokens of a whole tile. */
  readonly capacity: number;
}

/** Slots that padding adds, as a share of the tokens, at most: Veda's own cap. */
export const MAX_PADDING = 0.2;

/** Cuts a grid. */
export function tiling(grid: Grid, shape: TileShape): Tiling {
  return { ...tileOrder(grid, shape), shape, tokens: product(grid), capacity: product(shape) };
}

/** Slots that would be added to make every tile whole, as a share of the tokens. */
export function padding(grid: Grid, shape: TileShape): number {
  const slots = grid.reduce((all, length, axis) => all * Math.ceil(length / shape[axis]!) * shape[axis]!, 1);
  return slots / product(grid) - 1;
}

/** All shapes of so many tokens, by frames, then by rows. */
export function tileShapes(capacity: number): TileShape[] {
  const shapes: TileShape[] = [];
  for (let frames = 1; frames <= capacity; frames++) {
    if (capacity % frames !== 0) continue;
    const rest = capacity / frames;
    for (let rows = 1; rows <= rest; rows++) if (rest % rows === 0) shapes.push([frames, rows, rest / rows]);
  }
  return shapes;
}

/** Queries that GPUs attend with at a time: of a tile's last block they take a whole one, however few are left. */
const BLOCK = 64;
/** Shapes with no more surface than this many times the least count as compact. */
const COMPACT = 1.1;

/** Queries over those that whole blocks would have: what efficiency cannot exceed. */
export function blockFill({ tokens, tiles }: Pick<Tiling, "tokens" | "tiles">): number {
  return tokens / tiles.reduce((sum, { count }) => sum + Math.ceil(count / BLOCK) * BLOCK, 0);
}

/**
 * A shape for a grid that nothing says more about: of those within {@link MAX_PADDING} a compact one, for tokens that
 * lie close together attend alike, and among these the one that fills its blocks of queries best; if none is within,
 * the least padded.
 *
 * @param capacity tokens of a tile
 */
export function defaultShape(grid: Grid, capacity: number): TileShape {
  const shapes = tileShapes(capacity);
  const fitting = shapes.filter((shape) => padding(grid, shape) <= MAX_PADDING);
  if (fitting.length === 0) {
    return shapes.reduce((best, shape) => padding(grid, shape) < padding(grid, best) ? shape : best);
  }
  const most = COMPACT * Math.min(...fitting.map(surface));
  const compact = fitting.filter((shape) => surface(shape) <= most).sort((a, b) => surface(a) - surface(b));
  const fills = compact.map((shape) => blockFill(tiling(grid, shape)));
  return compact[fills.indexOf(Math.max(...fills))]!;
}

/**
 * Tokens of a tile for a grid that nothing says more about: the paper's 128, or, on small grids, the power of two that
 * leaves at least 16 tiles to choose from, but no fewer than 16.
 */
export function defaultCapacity(grid: Grid): number {
  return Math.max(16, Math.min(128, 2 ** Math.floor(Math.log2(product(grid) / 16))));
}

/** @throws {TilereelError} if a shape has another number of tokens than the scorer was trained for */
export function checkCapacity(shape: TileShape, capacity: number, what: string): void {
  if (product(shape) === capacity) return;
  throw new TilereelError(
    `${what}: a tile of ${shape.join("x")} has ${product(shape)} tokens, but ${capacity} were expected`,
  );
}

/** Tokens of a shape, or a grid. */
export function product([frames, rows, columns]: Grid): number {
  return frames * rows * columns;
}

/** Half the surface of a tile. */
function surface([frames, rows, columns]: TileShape): number {
  return frames * rows + rows * columns + columns * frames;
}
