/**
 * `veda_*`: made from the paper's description in float64 (tools/references/veda.py), `veda_authors` by the authors'
 * own code (tools/references/veda_authors.py).
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { poolTiles } from "../../gpu/ops/tile_pooling.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TilePattern } from "../veda/tile_pattern.ts";
import type { TiledGrid } from "../attention/tiles.ts";
import type { TileShape } from "../veda/tile_shapes.ts";
import type { Grid } from "../attention/grid.ts";
import { BOUNDS, type Bounds } from "./bounds.ts";
import { type Check, compareRows, forwardName, type ParityCase, References } from "./case.ts";
import { headsLast } from "./heads_last.ts";

/** Scores this close to the last kept score may fall on either side. */
const NEAR_THE_CUT = 1e-5;

/** Tiles, budgets, features, scores, masks, and attention under the predicted and the oracle's masks. */
export const vedaInference: ParityCase = {
  matches: /^veda_(?!search).*\.safetensors$/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    using references = await References.open(path);
    const [heads, tokens, headDim] = references.source.info("q").shape as [number, number, number];
    const grid = references.setting<Grid>("grid"), shape = references.setting<TileShape>("tile");
    for (const gpu of gpus) {
      const read = (name: string) => references.read(name);
      const differ = (what: string, value: number): Check => (
        { name: forwardName(path, what, gpu), value, unit: "differing", bound: 0 }
      );
      const compare = (what: string, bounds: Bounds, out: Float32Array, expected: Float32Array, row: number) =>
        compareRows(forwardName(path, what, gpu), gpu, bounds, out, expected, row);
      using pattern = new TilePattern(
        gpu,
        { heads, headDim },
        { grid, kept: 0 },
        shape,
        references.setting<number>("ratio"),
      );
      const { tiled, keep, layout } = pattern;
      const n = tiled.tiles.length;
      yield differ("tiles", differingTiles(tiled, await read("gather"), await read("valid")));
      const keepReference = await read("keep");
      yield differ("budget", keep.filter((count, row) => count !== keepReference[row]).length);

      const upload = async (name: string) =>
        gpu.upload(headsLast(await read(name), heads, tokens, headDim), [1, tokens, heads * headDim]);
      const q = await upload("q"), k = await upload("k"), v = await upload("v");
      const projections = {
        q: await references.upload(gpu, "project.q"),
        k: await references.upload(gpu, "project.k"),
      };
      const held: Tensor[] = [q, k, v, projections.q, projections.k];
      for (const [name, x] of [["features.q", q], ["features.k", k]] as const) {
        const features = poolTiles(gpu, x, heads, layout);
        yield* compare(name, BOUNDS.vedaFeatures, await gpu.read(features), await read(name), 3 * headDim);
        gpu.release(features);
      }
      const scores = pattern.scores(q, k, projections), heat = await references.upload(gpu, "heat.max");
      held.push(scores, heat);
      yield* compare("scores", BOUNDS.vedaScores, await gpu.read(scores), await read("scores"), n);
      for (const [mask, by, name] of [["predicted", scores, "scores"], ["oracle", heat, "heat.max"]] as const) {
        const runs = pattern.select(by), y = pattern.attend(q, k, v, runs);
        const kept = await keptTiles(gpu, runs, pattern, heads);
        const wrong = differingChoices(kept, await read(`mask.${mask}`), await read(name), n);
        yield differ(`mask.${mask}`, wrong);
        const expected = headsLast(await read(`sparse.${mask}`), heads, tokens, headDim);
        yield* compare(`sparse.${mask}`, BOUNDS.vedaAttention, await gpu.read(y), expected, headDim);
        gpu.release(runs);
        gpu.release(y);
      }
      for (const tensor of held) gpu.release(tensor);
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
