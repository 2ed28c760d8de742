import type { Gpu } from "../../gpu/gpu.ts";
import { attention } from "../../gpu/ops/attention.ts";
import { tileHeat } from "../../gpu/ops/tile_heat.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { oracleError, squaredNorm } from "../veda/oracle_error.ts";
import { NO_TERMS } from "../veda/scorer.ts";
import { tileGradients } from "../veda/tile_gradients.ts";
import { TilePattern } from "../veda/tile_pattern.ts";
import type { TileShape } from "../veda/tile_shapes.ts";
import type { Target } from "../veda/veda_file.ts";
import type { Grid } from "../attention/grid.ts";
import { BOUNDS, SCALAR_BOUNDS } from "./bounds.ts";
import { type Check, Checks, type ParityCase, References } from "./case.ts";

/**
 * In f16, the scores of attention have errors in the third digit, and exponentials of them have larger ones. The bounds
 * are for f32, in which training runs.
 */
const inF32 = (gpus: readonly Gpu[]) => gpus.filter((gpu) => !gpu.f16);

/**
 * `veda_a`, `veda_b` and `veda_c`, by `tools/references/veda.py` in float64, and `veda_authors`, by the authors' own
 * code: heat, log-sum-exp, loss, gradients of the projections, recall.
 */
export const vedaTeacher: ParityCase = {
  matches: /^veda_(?:[abc]|authors)\.safetensors$/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    using references = await References.open(path);
    const [heads, , headDim] = references.source.info("q").shape as [number, number, number];
    const grid = references.setting<Grid>("grid"), shape = references.setting<TileShape>("tile");
    for (const gpu of inF32(gpus)) {
      const check = new Checks(path, gpu, references);
      using pattern = new TilePattern(gpu, { heads, headDim }, { grid, kept: 0 }, shape, references.setting("ratio"));
      using owned = new TensorOwner(gpu);
      const { q, k, lse } = await attended(references, owned, heads);
      yield* check.rows("lse", BOUNDS.vedaLse, lse, { numbers: await references.byToken("lse"), row: 1 });
      const heat = tileHeat(gpu, q, k, lse, { heads, layout: pattern.layout });
      owned.adopt([heat.max, heat.sum]);
      yield* check.rows("heat, max", BOUNDS.vedaHeat, heat.max, { reference: "heat.max" });
      yield* check.rows("heat, sum", BOUNDS.vedaHeat, heat.sum, { reference: "heat.sum" });

      const project = async (side: "q" | "k") => owned.adopt(await references.upload(gpu, `project.${side}`));
      const projections = { q: await project("q"), k: await project("k") };
      const size = { layers: 1, heads, headDim }, group = { only: undefined };
      for (const target of ["max", "sum"] satisfies Target[]) {
        const gradients = { q: gpu.tensor(projections.q.shape), k: gpu.tensor(projections.k.shape) };
        const state = { q, k, lse };
        const scores = { projections, terms: NO_TERMS, target, loss: "kl" as const };
        const { loss: divergence, agreement } = tileGradients(gpu, state, size, pattern, group, scores, gradients);
        owned.adopt([gradients.q, gradients.k, divergence, agreement]);
        const loss = (await gpu.read(divergence)).reduce((a, b) => a + b) / (pattern.tiled.tiles.length * heads);
        yield await check.relative(`KL, ${target}`, SCALAR_BOUNDS.divergence, [loss], `kl.${target}`);
        for (const side of ["q", "k"] as const) {
          // Our gradients are of each head's own loss, the references' of the mean over heads.
          const gradient = (await gpu.read(gradients[side])).map((x) => x / heads);
          const what = `gradient of P_${side}, ${target}`, reference = `grad.${target}.project.${side}`;
          yield* check.rows(what, BOUNDS.vedaGradient, gradient, { reference });
        }
        if (target !== "max") continue;
        const found = await gpu.read(agreement),
          sum = (of: number) => found.reduce((s, x, i) => i % 4 === of ? s + x : s, 0);
        yield await check.relative("recall", SCALAR_BOUNDS.recall, [sum(0) / Math.max(1, sum(1))]);
      }
    }
  },
};

/** `veda_search`: the oracle's error with every shape of tile, and each head's best. */
export const vedaSearch: ParityCase = {
  matches: /^veda_search\.safetensors$/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    using references = await References.open(path);
    const [heads, , headDim] = references.source.info("q").shape as [number, number, number];
    const grid = references.setting<Grid>("grid"), shapes = references.setting<TileShape[]>("shapes");
    const winners = await references.read("best");
    for (const gpu of inF32(gpus)) {
      const check = new Checks(path, gpu, references);
      using owned = new TensorOwner(gpu);
      const state = await attended(references, owned, heads);
      const norms = await gpu.read(owned.adopt(squaredNorm(gpu, state.y, heads)));
      const errors: number[] = [];
      for (const shape of shapes) {
        using pattern = new TilePattern(gpu, { heads, headDim }, { grid, kept: 0 }, shape, references.setting("ratio"));
        const error = owned.adopt(oracleError(gpu, state, pattern, heads));
        errors.push(...(await gpu.read(error)).map((x, head) => x / norms[head]!));
      }
      const best = [...winners.keys()].map((head) => {
        const own = shapes.map((_, i) => errors[i * heads + head]!);
        return own.indexOf(Math.min(...own));
      });
      yield await check.relative("errors", SCALAR_BOUNDS.searchedErrors, errors, "error");
      yield check.differing("winners", best.filter((shape, head) => shape !== winners[head]).length);
    }
  },
};

/** Full attention with its operands and results, which are freed with `owned`. */
async function attended(references: References, owned: TensorOwner, heads: number) {
  const { gpu } = owned, { q, k, v } = await references.uploadQkv(gpu), lse = gpu.tensor([1, q.dim(1), heads]);
  const state = { q, k, v, lse, y: attention(gpu, q, k, v, { heads, lse }) };
  owned.adopt(Object.values(state));
  return state;
}
