import { TilereelError } from "../../gpu/common/errors.ts";
import { MAX_TILES } from "../../gpu/ops/tile_selection.ts";
import { type Grid, partCounts, product } from "../attention/grid.ts";
import { type TokenLayout, validTokens } from "../attention/layout.ts";
import { type TiledGrid, tileGrid, tilesOfFirst } from "../attention/tiles.ts";
import { budget, keptPairs } from "./budget.ts";
import type { TileShape } from "./tile_shapes.ts";

/** What is selected for each query tile. */
export interface TileRule {
  /** The number of key tiles. */
  readonly keep: readonly number[];
  /** Whether its own tile is always among them. */
  readonly ownTile: boolean;
  /** The pairs of queries and keys that one head then multiplies. */
  readonly pairs: number;
}

/** What heads have in common that select among the same tiles, and as many of them. */
export interface TileKind extends TileRule {
  /** The pairs of queries and keys that one head multiplies, kept tokens included. */
  readonly pairs: number;
  readonly tiled: TiledGrid;
  /** The number of first tiles that are always selected. */
  readonly always: number;
}

/**
 * The kind of heads whose grid is cut into tiles of one shape. Tiles with known frames are always selected.
 *
 * @param choice ρ, the share of tiles that Veda keeps, or the rule of another method
 * @throws {TilereelError} if there are too many tiles
 */
export function tileKind(
  layout: TokenLayout,
  shape: TileShape,
  choice: number | ((tiled: TiledGrid) => TileRule),
): TileKind {
  checkTiles(layout.grid, shape);
  const tiled = tileGrid(layout.grid, shape), always = tilesOfFirst(tiled.counts, shape, layout.known);
  const rule = withAlways(typeof choice === "number" ? vedaRule(choice, tiled) : choice(tiled), tiled, always);
  const kept = validTokens(layout) - tiled.tokens;
  return { ...rule, tiled, always, pairs: rule.pairs + kept * (2 * tiled.tokens + kept) };
}

/** Veda's rule for the share ρ of tiles. */
function vedaRule(share: number, tiled: TiledGrid): TileRule {
  const keep = budget(share, tiled);
  return { keep, ownTile: true, pairs: keptPairs(keep, tiled) };
}

/** A rule with tiles that are always selected, beside those that it selects, or in place of the last ones. */
function withAlways(rule: TileRule, { tiles }: TiledGrid, always: number): TileRule {
  if (always === 0) return rule;
  const keep = rule.keep.map((count) => Math.min(tiles.length, count + always));
  const size = tiles.slice(0, always).reduce((sum, { count }) => sum + count, 0) / always;
  const more = tiles.reduce((sum, { count }, row) => sum + count * size * (keep[row]! - rule.keep[row]!), 0);
  return { ...rule, keep, pairs: rule.pairs + more };
}

/** @throws {TilereelError} if there are too many tiles */
export function checkTiles(grid: Grid, shape: TileShape): void {
  const tiles = product(partCounts(grid, shape));
  if (tiles <= MAX_TILES) return;
  throw new TilereelError(
    `tiles of ${shape.join("x")} cut ${grid.join("x")} tokens into ${tiles}, but at most ${MAX_TILES} are supported; ` +
      `use larger tiles`,
  );
}

/** The most slots of all orders together: a binding has at least 128 MiB, and there are kept tokens, too. */
const MOST_SLOTS = 2 ** 24;

/**
 * Kinds whose heads can be computed together, each with as many first tiles that are always selected, and with tiles of
 * one size. All pairs of so many tiles are scored as the kind with the most has, so none has more than twice as many as
 * another.
 */
export function kindsTogether(kinds: readonly TileKind[]): TileKind[][] {
  const together: TileKind[][] = [], count = ({ tiled: { tiles } }: TileKind) => tiles.length;
  for (const kind of kinds.toSorted((a, b) => count(a) - count(b))) {
    const fits = (others: readonly TileKind[]) => {
      const [first] = others as [TileKind];
      return kind.always === first.always && kind.tiled.capacity === first.tiled.capacity &&
        count(kind) <= 2 * count(first) && (others.length + 1) * kind.tiled.tokens <= MOST_SLOTS;
    };
    const others = together.find(fits);
    if (others) others.push(kind);
    else together.push([kind]);
  }
  return together;
}
