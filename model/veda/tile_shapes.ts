import { TilereelError } from "../../gpu/common/errors.ts";
import { type TiledGrid, tileGrid } from "../attention/tiles.ts";
import { type Grid, partCounts, product } from "../attention/grid.ts";

/** The number of tokens of a tile along frames, rows and columns. */
export type TileShape = Grid;

/** A shape for every layer and head. */
export interface TileShapes {
  /** The shapes; all have the same number of tokens. */
  readonly shapes: readonly TileShape[];
  /** For each layer the shape of each head, as an index into `shapes`. */
  readonly choices: readonly Uint8Array[];
  /** For each layer the budget of each head, as a multiple of the share to keep. Default: 1 */
  readonly budgets?: readonly Float32Array[];
}

/** One shape for all. */
export function uniformShapes(shape: TileShape, { layers, heads }: { layers: number; heads: number }): TileShapes {
  return { shapes: [shape], choices: Array.from({ length: layers }, () => new Uint8Array(heads)) };
}

/** Veda's limit on the slots that padding adds, as a share of the tokens. */
export const MAX_PADDING = 0.2;

/** The slots that would be added to make every tile whole, as a share of the tokens. */
export function padding(grid: Grid, shape: TileShape): number {
  return product(partCounts(grid, shape)) * product(shape) / product(grid) - 1;
}

/** All shapes with `capacity` tokens, ordered by frames, then by rows. */
export function possibleShapes(capacity: number): TileShape[] {
  const shapes: TileShape[] = [];
  for (let frames = 1; frames <= capacity; frames++) {
    if (capacity % frames !== 0) continue;
    const rest = capacity / frames;
    for (let rows = 1; rows <= rest; rows++) if (rest % rows === 0) shapes.push([frames, rows, rest / rows]);
  }
  return shapes;
}

/** The number of queries that GPUs process at a time. The last block of a tile costs as much as a whole one. */
const BLOCK = 64;
/** Shapes whose surface is at most this many times the smallest count as compact. */
const COMPACT = 1.1;

/** The queries, as a share of those that whole blocks would have. Efficiency cannot exceed it. */
export function blockFill({ tokens, tiles }: Pick<TiledGrid, "tokens" | "tiles">): number {
  return tokens / tiles.reduce((sum, { count }) => sum + Math.ceil(count / BLOCK) * BLOCK, 0);
}

/**
 * The default shape for a grid. Among the compact shapes within {@link MAX_PADDING} (nearby tokens attend alike), it is
 * the one that fills its blocks of queries best. If no shape is within the limit, it is the one with the least padding.
 *
 * @param capacity the number of tokens of a tile
 */
export function defaultShape(grid: Grid, capacity: number): TileShape {
  const shapes = possibleShapes(capacity);
  const fitting = shapes.filter((shape) => padding(grid, shape) <= MAX_PADDING);
  if (fitting.length === 0) {
    return shapes.reduce((best, shape) => padding(grid, shape) < padding(grid, best) ? shape : best);
  }
  const most = COMPACT * Math.min(...fitting.map(surface));
  const compact = fitting.filter((shape) => surface(shape) <= most).sort((a, b) => surface(a) - surface(b));
  const fills = compact.map((shape) => blockFill(tileGrid(grid, shape)));
  return compact[fills.indexOf(Math.max(...fills))]!;
}

/**
 * The default number of tokens of a tile for a grid: the paper's 128. On small grids it is the power of two that leaves
 * at least 16 tiles to choose from, but at least 16.
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

/** Half the surface of a tile. */
function surface([frames, rows, columns]: TileShape): number {
  return frames * rows + rows * columns + columns * frames;
}
