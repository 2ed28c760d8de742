import type { Gpu } from "../../gpu/gpu.ts";
import { poolTiles } from "../../gpu/ops/tile_pooling.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { TilePattern } from "../veda/tile_pattern.ts";
import type { TiledGrid } from "../attention/tiles.ts";
import { MASS_TERMS, NO_TERMS } from "../veda/scorer.ts";
import type { TileShape } from "../veda/tile_shapes.ts";
import type { Grid } from "../attention/grid.ts";
import { BOUNDS } from "./bounds.ts";
import { type Check, Checks, type ParityCase, References } from "./case.ts";

/** Scores this close to the last kept score may fall on either side. */
const NEAR_THE_CUT = 1e-5;

/**
 * `veda_*`, from the paper's description in float64 (tools/references/veda.py), and `veda_authors`, by the authors' own
 * code (tools/references/veda_authors.py): tiles, budgets, features, scores, masks, and attention under the predicted
 * and the oracle's masks.
 */
export const vedaInference: ParityCase = {
  matches: /^veda_(?!search|second).*\.safetensors$/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    using references = await References.open(path);
    const [heads, , headDim] = references.source.info("q").shape as [number, number, number];
    const grid = references.setting<Grid>("grid"), shape = references.setting<TileShape>("tile");
    for (const gpu of gpus) {
      const check = new Checks(path, gpu, references), read = (name: string) => references.read(name);
      using pattern = new TilePattern(
        gpu,
        { heads, headDim },
        { grid, kept: 0 },
        shape,
        references.setting<number>("ratio"),
      );
      const { tiled, keep, layout } = pattern;
      const n = tiled.tiles.length;
      yield check.differing("tiles", differingTiles(tiled, await read("gather"), await read("valid")));
      const keepReference = await read("keep");
      yield check.differing("budget", keep.filter((count, row) => count !== keepReference[row]).length);

      using owned = new TensorOwner(gpu);
      const { q, k, v } = await references.uploadQkv(gpu);
      const projections = {
        q: owned.adopt(await references.upload(gpu, "project.q")),
        k: owned.adopt(await references.upload(gpu, "project.k")),
      };
      owned.adopt([q, k, v]);
      for (const [name, x] of [["features.q", q], ["features.k", k]] as const) {
        const features = owned.adopt(poolTiles(gpu, x, heads, layout));
        yield* check.rows(name, BOUNDS.vedaFeatures, features);
      }
      const scores = owned.adopt(pattern.scores(q, k, { projections, terms: NO_TERMS }));
      const heat = owned.adopt(await references.upload(gpu, "heat.max"));
      yield* check.rows("scores", BOUNDS.vedaScores, scores);
      for (const [mask, by, name] of [["predicted", scores, "scores"], ["oracle", heat, "heat.max"]] as const) {
        const runs = owned.adopt(pattern.select(by)), y = owned.adopt(pattern.attend(q, k, v, runs));
        const kept = await keptTiles(gpu, runs, pattern, heads);
        const wrong = differingChoices(kept, await read(`mask.${mask}`), await read(name), n);
        yield check.differing(`mask.${mask}`, wrong);
        const numbers = await references.byToken(`sparse.${mask}`);
        yield* check.rows(`sparse.${mask}`, BOUNDS.vedaAttention, y, { numbers, row: headDim });
      }
    }
  },
};

/**
 * `veda_second_order`: scores that estimate the logarithm of mass, untrained and with projections, by definition in
 * float64 and by the authors' code in float32 (tools/references/veda_second_order.py).
 */
export const vedaSecondOrder: ParityCase = {
  matches: /^veda_second_order\.safetensors$/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    using references = await References.open(path);
    const [heads, tokens, headDim] = references.source.info("q").shape as [number, number, number];
    const grid = references.setting<Grid>("grid"), shape = references.setting<TileShape>("tile");
    for (const gpu of gpus) {
      const check = new Checks(path, gpu, references);
      using owned = new TensorOwner(gpu);
      using pattern = new TilePattern(gpu, { heads, headDim }, { grid, kept: 0 }, shape, 1);
      const side = async (name: string) =>
        owned.adopt(gpu.upload(await references.byToken(name), [1, tokens, heads * headDim]));
      const q = await side("q"), k = await side("k");
      const projections = {
        q: owned.adopt(await references.upload(gpu, "project.q")),
        k: owned.adopt(await references.upload(gpu, "project.k")),
      };
      for (const [name, given] of [["untrained", {}], ["trained", { projections }]] as const) {
        const scores = owned.adopt(pattern.scores(q, k, { ...given, terms: MASS_TERMS }));
        for (const by of ["scores", "authors"]) yield* check.rows(`${by}.${name}`, BOUNDS.vedaSecondOrder, scores);
      }
    }
  },
};

/** The number of tiles that have other tokens, or another order of tokens. */
function differingTiles({ order, tiles, capacity }: TiledGrid, gather: Float32Array, valid: Float32Array): number {
  return tiles.length !== valid.length ? Infinity : tiles.filter(({ first, count }, tile) =>
    count !== valid[tile] ||
    order.subarray(first, first + count).some((token, i) => token !== gather[tile * capacity + i])
  ).length;
}

/** @returns [heads, tiles, tiles]: 1 where a query tile keeps a key tile */
async function keptTiles(gpu: Gpu, runs: Tensor, { tiled, keep }: TilePattern, heads: number): Promise<Uint8Array> {
  const list = new Uint32Array(await gpu.readBytes(runs));
  const n = tiled.tiles.length, kept = new Uint8Array(heads * n * n);
  const tileAt = new Map(tiled.tiles.map(({ first }, tile) => [first, tile]));
  let at = 0;
  for (let row = 0; row < heads * n; row++) {
    for (let i = 0; i < keep[row % n]!; i++, at += 2) kept[row * n + tileAt.get(list[at]!)!] = 1;
  }
  return kept;
}

/** The number of tiles that only one side keeps, without those whose score is close to the last kept score. */
function differingChoices(kept: Uint8Array, mask: Float32Array, scores: Float32Array, n: number): number {
  let count = 0;
  for (let first = 0; first < mask.length; first += n) {
    const own = first / n % n;
    const row = Array.from({ length: n }, (_, j) => j).filter((j) => j !== own);
    const cut = Math.min(...row.filter((j) => mask[first + j] === 1).map((j) => scores[first + j]!));
    count += row.filter((j) =>
      kept[first + j] !== mask[first + j] && !(Math.abs(scores[first + j]! - cut) <= NEAR_THE_CUT)
    ).length;
    if (kept[first + own] !== 1) count++;
  }
  return count;
}
