/**
 * `veda_*`: made from the paper's description in float64, see tools/references/veda.py.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { poolTiles } from "../../gpu/ops/tile_pooling.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TilePattern } from "../veda/tile_pattern.ts";
import type { TileShape, Tiling } from "../veda/tiling.ts";
import type { Grid } from "../wan/grid.ts";
import { type Check, forwardBound, forwardName, type ParityCase, References } from "./case.ts";
import { headsLast } from "./heads_last.ts";
import { relativeError } from "./measures.ts";

/** Of what no format of operands touches: pooling and scores are f32 always. */
const BOUND = 1e-4;
/** Scores this close to the last one kept may fall on either side. */
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
      const check = (what: string, value: number, unit: Check["unit"], bound: number): Check => (
        { name: forwardName(path, what, gpu), value, unit, bound }
      );
      const pattern = new TilePattern(gpu, { heads, headDim }, grid, shape, references.setting<number>("ratio"));
      const { tiling, keep, layout } = pattern;
      const n = tiling.tiles.length;
      yield check("tiles", differingTiles(tiling, await read("gather"), await read("valid")), "differing", 0);
      const keepReference = await read("keep");
      yield check("budget", keep.filter((count, row) => count !== keepReference[row]).length, "differing", 0);

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
        yield check(name, relativeError(await gpu.read(features), await read(name)), "relative", BOUND);
        gpu.release(features);
      }
      const scores = pattern.scores(q, k, projections), heat = await references.upload(gpu, "heat.max");
      held.push(scores, heat);
      yield check("scores", relativeError(await gpu.read(scores), await read("scores")), "relative", BOUND);
      for (const [mask, by, name] of [["predicted", scores, "scores"], ["oracle", heat, "heat.max"]] as const) {
        const runs = pattern.select(by), y = pattern.attend(q, k, v, runs);
        const kept = await keptTiles(gpu, runs, pattern, heads);
        const wrong = differingChoices(kept, await read(`mask.${mask}`), await read(name), n);
        yield check(`mask.${mask}`, wrong, "differing", 0);
        const expected = headsLast(await read(`sparse.${mask}`), heads, tokens, headDim);
        yield check(`sparse.${mask}`, relativeError(await gpu.read(y), expected), "relative", forwardBound(gpu));
        gpu.release(runs);
        gpu.release(y);
      }
      for (const tensor of held) gpu.release(tensor);
      pattern.release();
    }
  },
};

/** Tiles that hold other tokens, or hold them in another order. */
function differingTiles({ order, tiles, capacity }: Tiling, gather: Float32Array, valid: Float32Array): number {
  return tiles.length !== valid.length ? Infinity : tiles.filter(({ first, count }, tile) =>
    count !== valid[tile] ||
    order.subarray(first, first + count).some((token, i) => token !== gather[tile * capacity + i])
  ).length;
}

/** @returns [heads, tiles, tiles]: 1 where a query tile keeps a key tile */
async function keptTiles(gpu: Gpu, runs: Tensor, { tiling, keep }: TilePattern, heads: number): Promise<Uint8Array> {
  const list = new Uint32Array(await gpu.readBytes(runs));
  const n = tiling.tiles.length, kept = new Uint8Array(heads * n * n);
  const tileAt = new Map(tiling.tiles.map(({ first }, tile) => [first, tile]));
  let at = 0;
  for (let row = 0; row < heads * n; row++) {
    for (let i = 0; i < keep[row % n]!; i++, at += 2) kept[row * n + tileAt.get(list[at]!)!] = 1;
  }
  return kept;
}

/** Tiles that one side keeps and the other does not, but for those whose score is near that of the last one kept. */
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
