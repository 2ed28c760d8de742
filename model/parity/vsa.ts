import type { Gpu } from "../../gpu/gpu.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { Grid } from "../attention/grid.ts";
import { VsaAttention } from "../vsa/attention.ts";
import { BOUNDS } from "./bounds.ts";
import { type Check, Checks, type ParityCase, References } from "./case.ts";

/**
 * `vsa_*`, video sparse attention by its definition in float64 (tools/references/vsa.py): the tiles that are kept, the
 * coarse and the sparse part, and their sum with the gate.
 */
export const vsa: ParityCase = {
  matches: /^vsa_.*\.safetensors$/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    using references = await References.open(path);
    const [, heads, tokens, headDim] = references.source.info("q").shape as [number, number, number, number];
    const layout = { grid: references.setting<Grid>("grid"), kept: 0 };
    for (const gpu of gpus) {
      const check = new Checks(path, gpu, references);
      using attention = new VsaAttention(gpu, { heads, headDim }, layout, references.setting("sparsity"));
      using owned = new TensorOwner(gpu);
      const { q, k, v } = await references.uploadQkv(gpu);
      const gate = gpu.upload(await references.byToken("gate"), [1, tokens, heads * headDim]);
      owned.adopt([q, k, v, gate]);
      const { sparse, runs, coarse } = attention.parts(q, k, v, true);
      owned.adopt([sparse, runs, coarse!]);
      yield check.differing("kept tiles", await differing(gpu, runs, attention, await references.read("kept")));
      const byToken = async (name: string) => ({ numbers: await references.byToken(name), row: headDim });
      const spread = ofTokens(await gpu.read(coarse!), attention, heads, headDim);
      yield* check.rows("coarse", BOUNDS.vsaCoarse, spread, await byToken("coarse"));
      yield* check.rows("sparse", BOUNDS.vsaSparse, sparse, await byToken("sparse"));
      const output = owned.adopt(attention.attend(q, k, v, gate));
      yield* check.rows("output", BOUNDS.vsaOutput, output, await byToken("output"));
    }
  },
};

/** The number of places of `kept`, [heads, tiles, kept tiles], that have another tile. */
async function differing(
  gpu: Gpu,
  runs: Tensor,
  { pattern: { tiled: { tiles } } }: VsaAttention,
  kept: Float32Array,
): Promise<number> {
  const list = new Uint32Array(await gpu.readBytes(runs));
  return list.length !== 2 * kept.length
    ? Infinity
    : kept.filter((tile, i) => tiles[tile]!.first !== list[2 * i]).length;
}

/** From [heads, tiles, head dim] to [tokens, heads, head dim]. */
function ofTokens(
  rows: Float32Array,
  { pattern: { tiled: { order, tiles } } }: VsaAttention,
  heads: number,
  headDim: number,
): Float32Array {
  const y = new Float32Array(order.length * heads * headDim);
  for (const [tile, { first, count }] of tiles.entries()) {
    for (const token of order.subarray(first, first + count)) {
      for (let head = 0; head < heads; head++) {
        const from = (head * tiles.length + tile) * headDim;
        y.set(rows.subarray(from, from + headDim), (token * heads + head) * headDim);
      }
    }
  }
  return y;
}
