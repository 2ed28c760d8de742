/**
 * The kinds of self-attention whose denoising steps are timed, on routes and scores made up for them.
 *
 * @module
 */
import { product } from "../../model/attention/grid.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { everyHead, wholeAttention } from "../../model/attention/head_groups.ts";
import { VedaAttention } from "../../model/veda/attention.ts";
import { defaultCapacity, defaultShape, uniformShapes } from "../../model/veda/tile_shapes.ts";
import { VortaAttention } from "../../model/vorta/attention.ts";
import { BRANCHES } from "../../model/vorta/branch.ts";
import { measuredSettings } from "../measured_sizes.ts";
import type { SelfAttention } from "../../model/attention/method.ts";
import { normalTensor } from "../random.ts";
import type { WanShape } from "../wan_shapes.ts";
import { evenRoutes, sharesOf, sharesWith } from "./routes.ts";

/** One of them; holds GPU memory until it is disposed of. */
export interface TimedMethod extends Disposable {
  readonly name: string;
  /** Share of the pairs of queries and keys that are multiplied. */
  readonly density: number;
  /** The number of layers after which it starts again. */
  readonly period: number;
  /** Undefined: full attention, as the model has it. */
  readonly attend: SelfAttention | undefined;
  /** Of VORTA: share of the heads on full attention. */
  readonly fullHeads?: number;
  /** Of Veda: share of the tiles that are kept. */
  readonly keep?: number;
}

/** Every token sees every other. */
export function full(): TimedMethod {
  return { name: "full", density: 1, period: 1, attend: undefined, [Symbol.dispose]() {} };
}

/** VORTA with a given number of heads on full attention, and half of the others on each sparse branch. */
export function vorta(gpu: Gpu, { config, grid }: WanShape, fullHeads: number): TimedMethod {
  const attention = new VortaAttention(gpu, config, { grid, kept: 0 }, measuredSettings(grid));
  const routes = evenRoutes(sharesWith(fullHeads), config.heads);
  const shares = sharesOf(routes);
  const { pairs } = attention;
  const attend = attention.routed(routes);
  const percent = shares.map((share) => (100 * share).toFixed(0));
  return {
    name: `vorta, heads ${percent[0]} % full, ${percent[2]} % sliding, ${percent[1]} % core-set`,
    density: BRANCHES.reduce((sum, branch, i) => sum + shares[i]! * pairs[branch], 0) / pairs.full,
    period: routes.length,
    attend: (q, k, v, layer) => attend(q, k, v, layer % routes.length),
    fullHeads: shares[0],
    [Symbol.dispose]: () => attention[Symbol.dispose](),
  };
}

/** Veda with tiles of the paper's size, or the grid's; its scores are those of projections that nothing has trained. */
export function veda(gpu: Gpu, { config, grid }: WanShape, keep: number): TimedMethod {
  const { heads, headDim } = config;
  // All layers do the same.
  const one = { ...config, layers: 1 };
  const shape = defaultShape(grid, defaultCapacity(grid));
  const [q, k] = [1, 2].map((which) => normalTensor(gpu, [heads, 3 * headDim, headDim], 1e-2, "f32", which));
  const projections = [{ q: q!, k: k! }];
  const attention = new VedaAttention(gpu, config, { grid, kept: 0 }, {
    shapes: uniformShapes(shape, one),
    keep,
    projections,
  });
  const attend = wholeAttention(gpu, { grid, kept: 0 }, attention.some(everyHead(one)));
  return {
    name: `veda, keep ${keep}, tiles of ${shape.join("×")}`,
    density: attention.pairs(0, 0) / product(grid) ** 2,
    period: 1,
    attend: (q, k, v) => attend(q, k, v, 0),
    keep,
    [Symbol.dispose]: () => {
      attention[Symbol.dispose]();
      for (const tensor of [q!, k!]) gpu.release(tensor);
    },
  };
}
