import type { Gpu } from "../../gpu/gpu.ts";
import type { Operand } from "../../gpu/ops/packed_operand.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { FullAttention } from "../../model/attention/full.ts";
import { everyHead, wholeAttention } from "../../model/attention/head_groups.ts";
import { type TokenLayout, validTokens } from "../../model/attention/layout.ts";
import { VedaAttention } from "../../model/veda/attention.ts";
import { MASS_TERMS, type Projections } from "../../model/veda/scorer.ts";
import { defaultCapacity, defaultShape, uniformShapes } from "../../model/veda/tile_shapes.ts";
import { VsaAttention } from "../../model/vsa/attention.ts";
import { DEFAULT_SPARSITY } from "../../model/vsa/methods.ts";
import { VortaAttention } from "../../model/vorta/attention.ts";
import { BRANCHES } from "../../model/vorta/branch.ts";
import type { SelfAttention } from "../../model/attention/method.ts";
import { normalTensor } from "../random.ts";
import type { ModelShape } from "../shapes.ts";

/** A kind of self-attention to time, with untrained routes and scores. It holds GPU memory until it is disposed of. */
export interface TimedMethod extends Disposable {
  readonly name: string;
  /** The share of the pairs of queries and keys that are multiplied. */
  readonly density: number;
  /** The number of layers after which it starts again. */
  readonly period: number;
  /** Undefined: full attention, as the model has it. */
  readonly attend: SelfAttention | undefined;
  /** The share of VORTA's heads that are on full attention. */
  readonly fullHeads?: number;
  /** The share of tiles that Veda keeps. */
  readonly keep?: number;
}

type Attended = readonly [q: Tensor, k: Tensor, v: Tensor, layer: number, ...unknown[]];

/** Full attention. */
export function full(gpu: Gpu, shape: ModelShape): TimedMethod {
  const attention = new FullAttention(gpu, shape.config, layoutOf(shape));
  return {
    ...{ name: "full", density: 1, period: 1 },
    attend: attention.plan && ((q, k, v) => attention.attend(q, k, v)),
    [Symbol.dispose]: () => attention[Symbol.dispose](),
  };
}

/**
 * VORTA with a given share of the heads on full attention, and half of the others on each sparse branch.
 *
 * @param longest see {@link evenRoutes}
 */
export function vorta(gpu: Gpu, shape: ModelShape, fullHeads: number, longest?: number): TimedMethod {
  const { config, vorta: settings } = shape;
  const attention = new VortaAttention(gpu, config, layoutOf(shape), settings);
  const routes = evenRoutes(fullHeads, config.heads, longest), shares = sharesOf(routes);
  const { pairs } = attention, attend = attention.routed(routes);
  const [onFull, onCoreset, onSliding] = shares.map((share) => (100 * share).toFixed(0));
  return {
    name: `vorta, heads ${onFull} % full, ${onSliding} % sliding, ${onCoreset} % core-set`,
    density: BRANCHES.reduce((sum, branch, i) => sum + shares[i]! * pairs[branch], 0) / pairs.full,
    period: routes.length,
    attend: Object.assign((...[q, k, v, layer]: Attended) => attend(q, k, v, layer % routes.length), {
      consuming: (...[q, k, v, layer]: Attended) => attend.consuming!(q, k, v, layer % routes.length),
    }),
    fullHeads: shares[0]!,
    [Symbol.dispose]: () => attention[Symbol.dispose](),
  };
}

/** Veda with tiles of the default shape and one layer's projections. */
export function veda(gpu: Gpu, { config, grid, ...model }: ModelShape, keep: number): TimedMethod {
  // All layers do the same.
  const one = { ...config, layers: 1 }, shape = defaultShape(grid, defaultCapacity(grid));
  const layout = layoutOf({ grid, ...model });
  const projections = randomProjections(gpu, config);
  const attention = new VedaAttention(gpu, one, layout, {
    shapes: uniformShapes(shape, one),
    keep,
    scores: { projections: [projections], terms: MASS_TERMS },
  });
  const attend = wholeAttention(gpu, layout, attention.some(everyHead(one)), config.heads);
  return {
    name: `veda, keep ${keep}, tiles of ${shape.join("×")}`,
    density: attention.pairs(0, 0) / validTokens(layout) ** 2,
    period: 1,
    attend: Object.assign((q: Tensor, k: Tensor, v: Tensor) => attend(q, k, v, 0), {
      consuming: (q: Tensor, k: Tensor, v: Tensor, _: number, next?: Operand) =>
        attend.consuming?.(q, k, v, 0, next) ?? attend(q, k, v, 0),
    }),
    keep,
    [Symbol.dispose]: () => {
      attention[Symbol.dispose]();
      for (const tensor of [projections.q, projections.k]) gpu.release(tensor);
    },
  };
}

/** Video sparse attention, with gates where the model has them. */
export function vsa(gpu: Gpu, { config, sparsity = DEFAULT_SPARSITY, ...model }: ModelShape): TimedMethod {
  const layout = layoutOf(model), attention = new VsaAttention(gpu, config, layout, sparsity);
  const attend: SelfAttention = (q, k, v, _layer, gate) => attention.attend(q, k, v, gate);
  return {
    name: `vsa, sparsity ${sparsity}`,
    density: attention.pattern.pairs / validTokens(layout) ** 2,
    period: 1,
    attend: Object.assign(attend, { takesGate: true }),
    [Symbol.dispose]: () => attention[Symbol.dispose](),
  };
}

/** Projections of a layer for Veda's scores; the caller's. */
export function randomProjections(
  gpu: Gpu,
  { heads, headDim }: { readonly heads: number; readonly headDim: number },
): Projections<Tensor> {
  const make = (which: number) => normalTensor(gpu, [heads, 3 * headDim, headDim], 1e-2, "f32", which);
  return { q: make(1), k: make(2) };
}

/** The tokens of a model's clip. */
function layoutOf({ grid, kept, textLength: length }: Pick<ModelShape, "grid" | "kept" | "textLength">): TokenLayout {
  return { grid, kept, ...kept > 0 && length !== undefined && { length } };
}

/**
 * Routes without a router: a share of the heads on full attention, and half of the others on each sparse branch. They
 * are for the smallest number of layers whose heads can be divided in these shares, or nearly so.
 *
 * @param longest the largest number of layers over which a share is spread
 * @returns for each layer the branch of each head, as an index into `BRANCHES`
 */
export function evenRoutes(full: number, heads: number, longest = 8): Uint8Array[] {
  const shares = BRANCHES.map((branch) => branch === "full" ? full : (1 - full) / 2);
  const off = (layers: number) =>
    Math.max(...shares.map((share) => Math.abs(share - Math.round(share * heads * layers) / (heads * layers))));
  let layers = 1;
  for (let more = 2; more <= longest && off(layers) > 1e-9; more++) {
    if (off(more) < off(layers) - 1e-9) layers = more;
  }
  const given = shares.map(() => 0);
  return Array.from({ length: layers }, (_, layer) => {
    const owed = (branch: number) => shares[branch]! * heads * (layer + 1) - given[branch]!;
    return Uint8Array.from({ length: heads }, () => {
      const branch = [...BRANCHES.keys()].reduce((most, branch) => owed(branch) > owed(most) ? branch : most);
      given[branch]!++;
      return branch;
    }).sort();
  });
}

/** The share of the heads on each branch, in the order of `BRANCHES`. */
export function sharesOf(routes: readonly Uint8Array[]): number[] {
  const all = routes.flatMap((heads) => [...heads]);
  return BRANCHES.map((_, branch) => all.filter((route) => route === branch).length / all.length);
}
