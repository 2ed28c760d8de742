/**
 * `veda_a`, `veda_b`, `veda_c` and `veda_search`: Veda's teacher, its loss and the search for shapes of tiles, made by
 * `tools/references/veda.py` in float64; `veda_authors`: teacher and loss by the authors' own code.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { attention } from "../../gpu/ops/attention.ts";
import { tileHeat } from "../../gpu/ops/tile_heat.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { oracleError, squaredNorm } from "../veda/oracle_error.ts";
import { tileGradients } from "../veda/tile_gradients.ts";
import { TilePattern } from "../veda/tile_pattern.ts";
import type { TileShape } from "../veda/tile_shapes.ts";
import type { Target } from "../veda/veda_file.ts";
import type { Grid } from "../attention/grid.ts";
import { BOUNDS, type Bounds, SCALAR_BOUNDS } from "./bounds.ts";
import { type Check, compareRows, forwardName, type ParityCase, References } from "./case.ts";
import { headsLast } from "./heads_last.ts";
import { relativeError } from "./measures.ts";

/**
 * In f16, the scores of attention have errors in the third digit, and exponentials of them have larger ones. The bounds
 * are for f32, in which training runs.
 */
const inF32 = (gpus: readonly Gpu[]) => gpus.filter((gpu) => !gpu.f16);

/** Heat, log-sum-exp, loss, gradients of the projections, recall. */
export const vedaTeacher: ParityCase = {
  matches: /^veda_(?:[abc]|authors)\.safetensors$/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    using references = await References.open(path);
    const [heads, tokens, headDim] = references.source.info("q").shape as [number, number, number];
    const grid = references.setting<Grid>("grid"), shape = references.setting<TileShape>("tile");
    for (const gpu of inF32(gpus)) {
      const against = async (what: string, reference: string, values: ArrayLike<number>, bound: number) => ({
        name: forwardName(path, what, gpu),
        value: relativeError(values, await references.read(reference)),
        unit: "relative" as const,
        bound,
      });
      using held = new Held(gpu);
      const { q, k, lse } = held.attend(await inputs(references, gpu));
      using pattern = new TilePattern(gpu, { heads, headDim }, { grid, kept: 0 }, shape, references.setting("ratio"));
      held.defer(() => pattern[Symbol.dispose]());
      const rows = async (what: string, reference: string, bounds: Bounds, values: Float32Array, row: number) =>
        compareRows(forwardName(path, what, gpu), gpu, bounds, values, await references.read(reference), row);
      const expected = headsLast(await references.read("lse"), heads, tokens, 1);
      yield* compareRows(forwardName(path, "lse", gpu), gpu, BOUNDS.vedaLse, await gpu.read(lse), expected, 1);
      const heat = tileHeat(gpu, q, k, lse, { heads, layout: pattern.layout });
      held.own(heat.max, heat.sum);
      const tiles = pattern.tiled.tiles.length;
      yield* await rows("heat, max", "heat.max", BOUNDS.vedaHeat, await gpu.read(heat.max), tiles);
      yield* await rows("heat, sum", "heat.sum", BOUNDS.vedaHeat, await gpu.read(heat.sum), tiles);

      const project = async (side: "q" | "k") => held.own(await references.upload(gpu, `project.${side}`))[0]!;
      const projections = { q: await project("q"), k: await project("k") };
      const size = { layers: 1, heads, headDim }, group = { only: undefined };
      for (const target of ["max", "sum"] satisfies Target[]) {
        const gradients = { q: gpu.tensor(projections.q.shape), k: gpu.tensor(projections.k.shape) };
        const state = { q, k, lse };
        const { divergence, agreement } = tileGradients(
          gpu,
          state,
          size,
          pattern,
          group,
          projections,
          target,
          gradients,
        );
        held.own(gradients.q, gradients.k, divergence, agreement);
        const loss = (await gpu.read(divergence)).reduce((a, b) => a + b) / (tiles * heads);
        yield await against(`KL, ${target}`, `kl.${target}`, [loss], SCALAR_BOUNDS.divergence);
        for (const side of ["q", "k"] as const) {
          // Our gradients are of each head's own loss, the references' of the mean over heads.
          const gradient = (await gpu.read(gradients[side])).map((x) => x / heads);
          const what = `gradient of P_${side}, ${target}`, reference = `grad.${target}.project.${side}`;
          yield* await rows(what, reference, BOUNDS.vedaGradient, gradient, headDim);
        }
        if (target !== "max") continue;
        const found = await gpu.read(agreement),
          sum = (of: number) => found.reduce((s, x, i) => i % 4 === of ? s + x : s, 0);
        yield await against("recall", "recall", [sum(0) / Math.max(1, sum(1))], SCALAR_BOUNDS.recall);
      }
    }
  },
};

/** The oracle's error with every shape, and each head's best. */
export const vedaSearch: ParityCase = {
  matches: /^veda_search\.safetensors$/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    using references = await References.open(path);
    const [heads, , headDim] = references.source.info("q").shape as [number, number, number];
    const grid = references.setting<Grid>("grid"), shapes = references.setting<TileShape[]>("shapes");
    const expected = await references.read("error"), winners = await references.read("best");
    for (const gpu of inF32(gpus)) {
      using held = new Held(gpu);
      const state = held.attend(await inputs(references, gpu));
      const [norm] = held.own(squaredNorm(gpu, state.y, heads));
      const norms = await gpu.read(norm!);
      const errors: number[] = [];
      for (const shape of shapes) {
        using pattern = new TilePattern(gpu, { heads, headDim }, { grid, kept: 0 }, shape, references.setting("ratio"));
        const [error] = held.own(oracleError(gpu, state, pattern, heads));
        errors.push(...(await gpu.read(error!)).map((x, head) => x / norms[head]!));
      }
      const best = [...winners.keys()].map((head) => {
        const own = shapes.map((_, i) => errors[i * heads + head]!);
        return own.indexOf(Math.min(...own));
      });
      yield {
        name: forwardName(path, "errors", gpu),
        value: relativeError(errors, expected),
        unit: "relative",
        bound: SCALAR_BOUNDS.searchedErrors,
      };
      yield {
        name: forwardName(path, "winners", gpu),
        value: best.filter((shape, head) => shape !== winners[head]).length,
        unit: "differing",
        bound: 0,
      };
    }
  },
};

/** q, k, v on the GPU, token by token, where the references lie head by head. */
async function inputs(references: References, gpu: Gpu): Promise<{ q: Tensor; k: Tensor; v: Tensor; heads: number }> {
  const [heads, tokens, headDim] = references.source.info("q").shape as [number, number, number];
  const upload = async (name: string) =>
    gpu.upload(headsLast(await references.read(name), heads, tokens, headDim), [1, tokens, heads * headDim]);
  return { q: await upload("q"), k: await upload("k"), v: await upload("v"), heads };
}

/** Tensors that are freed at the end. */
class Held implements Disposable {
  readonly #stack = new DisposableStack();

  constructor(private readonly gpu: Gpu) {}

  own(...tensors: Tensor[]): Tensor[] {
    for (const tensor of tensors) this.defer(() => this.gpu.release(tensor));
    return tensors;
  }

  defer(free: () => void): void {
    this.#stack.defer(free);
  }

  /** Full attention and its operands and results. */
  attend({ q, k, v, heads }: { q: Tensor; k: Tensor; v: Tensor; heads: number }) {
    const lse = this.gpu.tensor([1, q.dim(1), heads]);
    const y = attention(this.gpu, q, k, v, { heads, lse });
    this.own(q, k, v, lse, y);
    return { q, k, v, y, lse };
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}
