import { type AttentionPlan, cutBlocks, type Run, uploadBlockList } from "../../gpu/attention_plan.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { attention, attentionBackward, type AttentionBackwardOptions } from "../../gpu/ops/attention.ts";
import type { AttentionPattern } from "../../gpu/ops/attention_launch.ts";
import { blockRows } from "../../gpu/ops/attention_family.ts";
import { type Buckets, bucketSelect, type Selection } from "../../gpu/ops/bucket_select.ts";
import { bucketCollect, bucketSpread } from "../../gpu/ops/bucket_spread.ts";
import { zeros } from "../../gpu/ops/elementwise.ts";
import { headDots } from "../../gpu/ops/head_dots.ts";
import { mixHeads } from "../../gpu/ops/mix_heads.ts";
import { sumRows } from "../../gpu/ops/sum_rows.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { FullAttention } from "../attention/full.ts";
import { product } from "../attention/grid.ts";
import { groupHeads, headsAtOnce, type SomeHeads, wholeAttention } from "../attention/head_groups.ts";
import { type HeadShape, type TokenLayout, validTokens } from "../attention/layout.ts";
import type { SelfAttention } from "../attention/method.ts";
import { attentionOutput } from "../attention/output.ts";
import { type Branch, BRANCHES } from "./branch.ts";
import { coreSet } from "./core_set.ts";
import type { VortaSettings } from "./settings.ts";
import { type BlockRuns, slidingTiles } from "./sliding_tile.ts";

/** The result of a branch. */
interface Taken {
  readonly y: Tensor;
  readonly pattern: AttentionPattern;
  /** Present where tokens were dropped. */
  readonly selection?: Selection;
}

/**
 * VORTA's three kinds of self-attention over one layout: one kind for all heads, a kind for each head by its route, or
 * all three weighted by the router's scores, for training. The patterns are on the GPU until this is disposed of.
 */
export class VortaAttention implements Disposable {
  readonly #owner: TensorOwner;
  readonly #full: FullAttention;
  readonly #sliding: AttentionPlan;
  /** Makes the lists for gradients of {@link #sliding}, which training alone needs. */
  readonly #slidingKeys: () => BlockRuns;
  #withKeys: AttentionPlan | undefined;
  /** Absent if no bucket fits into the grid; then every token is kept. */
  readonly #coreSet: { readonly buckets: Buckets; readonly plan: Omit<AttentionPlan, "order"> } | undefined;
  /** The pairs of queries and keys of one head that each branch multiplies. */
  readonly pairs: Readonly<Record<Branch, number>>;

  constructor(
    private readonly gpu: Gpu,
    private readonly shape: Omit<HeadShape, "layers">,
    private readonly layout: TokenLayout,
    settings: VortaSettings,
  ) {
    const rows = blockRows(gpu, shape.headDim);
    const sliding = slidingTiles(layout, settings, rows), core = coreSet(layout, settings);
    const coarse = core.members.length > 0 && core.size > 1;
    const full = validTokens(layout) ** 2;
    this.pairs = { full, coreset: coarse ? core.slots ** 2 : full, sliding: sliding.pairs };
    const upload = (data: Uint32Array, shape: readonly number[]) => gpu.upload(data, shape, "u32");
    const { result, tensors } = gpu.collect(() => ({
      sliding: {
        order: upload(sliding.order, [1, sliding.order.length]),
        queries: uploadBlockList(gpu, sliding.queries.blocks, sliding.queries.runs),
      },
      coreSet: coarse
        ? {
          buckets: {
            members: upload(core.members, [core.members.length / core.size, core.size]),
            centre: core.centre,
            keep: core.keep,
            rest: core.rest.length > 0 ? upload(core.rest, [core.rest.length]) : undefined,
            end: product(layout.grid),
          },
          plan: coreSetPlan(gpu, core.slots, rows, shape.ownKeys),
        }
        : undefined,
    }));
    this.#owner = new TensorOwner(gpu);
    this.#owner.adopt(tensors);
    this.#full = new FullAttention(gpu, shape, layout);
    this.#sliding = result.sliding;
    this.#slidingKeys = sliding.keys;
    this.#coreSet = result.coreSet;
  }

  [Symbol.dispose](): void {
    this.#owner[Symbol.dispose]();
    this.#full[Symbol.dispose]();
  }

  /**
   * Selects the tokens that take part in core-set attention; undefined if no bucket fits into the grid.
   *
   * @returns see `bucketSelect`
   */
  select(q: Tensor, k: Tensor, only?: Tensor): Selection | undefined {
    const { gpu, shape: { heads, ownKeys } } = this;
    return this.#coreSet && bucketSelect(gpu, q, heads, this.#coreSet.buckets, { only, keys: ownKeys ? k : undefined });
  }

  /** The plan of sliding-tile attention with its lists for gradients, which are made the first time. */
  get #slidingForGradients(): AttentionPlan {
    if (!this.#withKeys) {
      const { result: keys, tensors } = this.gpu.collect(() => {
        const { blocks, runs } = this.#slidingKeys();
        return uploadBlockList(this.gpu, blocks, runs);
      });
      this.#owner.adopt(tensors);
      this.#withKeys = { ...this.#sliding, keys };
    }
    return this.#withKeys;
  }

  /** Computes all heads through one branch. */
  single(branch: Branch): SelfAttention {
    const { gpu, layout } = this, parts = this.#full.parts.length > 1 ? this.#full.parts : [undefined];
    const whole = wholeAttention(gpu, layout, (q, k, v, _layer, into: Tensor) => {
      for (const only of parts) this.#branch(branch, q, k, v, { only, into });
    });
    const attend: SelfAttention = (q, k, v, layer) =>
      gpu.tape ? gpu.scope(() => this.#branch(branch, q, k, v).y) : whole(q, k, v, layer);
    return Object.assign(attend, { consuming: whole.consuming });
  }

  /**
   * Computes each head through its route's branch. The heads of a branch share a dispatch.
   *
   * @param routes for each layer the branch of each head, as an index into {@link BRANCHES}
   * @param full computes the heads of the full branch, instead of this class
   */
  routed(routes: readonly Uint8Array[], full?: SomeHeads): SelfAttention {
    const { gpu } = this;
    const groups = groupHeads(
      gpu,
      routes.map((route) => [...route.keys()]),
      (layer, head) => BRANCHES[routes[layer]![head]!]!,
      headsAtOnce(gpu, this.shape, validTokens(this.layout)),
    );
    return wholeAttention(gpu, this.layout, (q, k, v, layer, into: Tensor) => {
      const others = groups[layer]!.filter(({ of }) => !(of === "full" && full));
      for (const { of: branch, only } of others) this.#branch(branch, q, k, v, { only, into });
      if (full && others.length < groups[layer]!.length) full(q, k, v, layer, into);
    });
  }

  /**
   * Computes the sum of all branches, weighted by scores, which a tape can watch (VORTA eq. 5).
   *
   * @param scores for each layer and branch, [batch, heads], f32
   */
  weighted(scores: readonly (readonly Tensor[])[]): SelfAttention {
    const { gpu } = this;
    return (q, k, v, layer) => {
      const weights = scores[layer]!;
      const taken = BRANCHES.map((branch) => {
        const lse = gpu.tensor([q.dim(0), q.dim(1), this.shape.heads]);
        return { ...this.#branch(branch, q, k, v, { lse }), lse };
      });
      const y = mixHeads(gpu, taken.map(({ y }, i) => [weights[i]!, y]));
      const products = gpu.tape?.products;
      gpu.tape?.record(y, [q, k, v, ...weights], (dy, wanted) => {
        const gradients = wanted[0]
          ? { dq: zeros(gpu, q.shape), dk: zeros(gpu, k.shape), dv: zeros(gpu, v.shape) }
          : undefined;
        const dWeights = taken.map((branch, i) =>
          gpu.scope(() =>
            this.#back(branch, dy, { q, k, v }, gradients, { headScale: weights[i]!, products: products! })
          )
        );
        return [gradients?.dq, gradients?.dk, gradients?.dv, ...dWeights];
      });
      return y;
    };
  }

  /** @returns the gradient of the branch's weights; it adds those of q, k and v where they are requested */
  #back(
    { y, lse, pattern, selection }: Taken & { readonly lse: Tensor },
    dy: Tensor,
    qkv: { q: Tensor; k: Tensor; v: Tensor },
    gradients: { dq: Tensor; dk: Tensor; dv: Tensor } | undefined,
    options: AttentionBackwardOptions,
  ): Tensor {
    const { gpu, shape: { heads } } = this;
    if (selection) {
      const collected = gpu.tensor(dy.shape);
      gpu.copy(dy, collected);
      bucketCollect(gpu, collected, heads, this.#coreSet!.buckets, selection);
      dy = collected;
    }
    const dotY = headDots(gpu, dy, y, heads);
    if (gradients) attentionBackward(gpu, { ...qkv, dy, lse, dotY }, gradients, pattern, options);
    return sumRows(gpu, dotY);
  }

  /**
   * Computes one branch.
   *
   * @param options `only`, [n], u32: the heads to compute; `into`: where to write the result, instead of to a new tensor;
   * `lse`, [batch, tokens, heads], f32: receives what the backward pass needs
   */
  #branch(
    branch: Branch,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    { only, into = attentionOutput(this.gpu, q, this.layout), lse }: {
      only?: Tensor | undefined;
      into?: Tensor;
      lse?: Tensor;
    } = {},
  ): Taken {
    const { gpu, shape: { heads } } = this;
    const run = (pattern: AttentionPattern, selection?: Selection): Taken => {
      const y = attention(gpu, q, k, v, { ...pattern, into, ...lse && { lse } });
      if (selection) bucketSpread(gpu, y, heads, selection, only);
      return { y, pattern, ...selection && { selection } };
    };
    if (branch === "sliding") {
      const plan = gpu.tape || lse ? this.#slidingForGradients : this.#sliding;
      return run({ heads, only, plan });
    }
    const selection = branch === "coreset" ? this.select(q, k, only) : undefined;
    if (!selection) {
      if (!gpu.tape && !lse) return { y: this.#full.attend(q, k, v, { only, into }), pattern: { heads, only } };
      return run({ heads, only, plan: this.#full.plan });
    }
    return run({ heads, only, plan: { ...this.#coreSet!.plan, order: selection.order } }, selection);
  }
}

/**
 * Core-set attention between all slots; the order is filled in by the selection.
 *
 * @param ownKeys whether keys have slots of their own, before those of queries
 */
function coreSetPlan(gpu: Gpu, count: number, rows: number, ownKeys = false): Omit<AttentionPlan, "order"> {
  const list = (outer: Run, inner: Run) => uploadBlockList(gpu, cutBlocks(outer, rows, 0, 1), [inner]);
  const keys = { first: 0, count }, queries = { first: ownKeys ? count : 0, count };
  return { queries: list(queries, keys), keys: list(keys, queries), keySlots: count };
}
