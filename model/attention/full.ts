import { type AttentionPlan, cutBlocks, uploadBlockList } from "../../gpu/attention_plan.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { attention } from "../../gpu/ops/attention.ts";
import { blockRows } from "../../gpu/ops/attention_family.ts";
import { type Operand, PackedOperand } from "../../gpu/ops/packed_operand.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { product } from "./grid.ts";
import { everyHead, groupHeads, headsAtOnce, wholeAttention } from "./head_groups.ts";
import { type HeadShape, type TokenLayout, validTokens } from "./layout.ts";
import type { AttentionMethod } from "./method.ts";
import { attentionOutput } from "./output.ts";
import { Passes } from "./passes.ts";
import { densityOf } from "./report.ts";

/** Options of {@link FullAttention.attend}. */
interface FullOptions<Into extends Operand = Tensor> {
  readonly lse?: Tensor;
  readonly only?: Tensor | undefined;
  readonly into?: Into | undefined;
}

/** Full attention of one layout: every valid token attends to every other. It is on the GPU until it is disposed of. */
export class FullAttention implements Disposable {
  readonly #owner: TensorOwner;
  /** For what dense attention cannot do: gradients, and batches. Undefined where no token is padding. */
  readonly plan: AttentionPlan | undefined;
  /** The heads that are computed at once: for each part, [heads], u32. */
  readonly parts: readonly Tensor[];

  /** @param atOnce the number of heads that are computed at once. Default: that of {@link headsAtOnce} */
  constructor(
    private readonly gpu: Gpu,
    private readonly shape: Omit<HeadShape, "layers">,
    private readonly layout: TokenLayout,
    atOnce = headsAtOnce(gpu, shape, validTokens(layout)),
  ) {
    this.#owner = new TensorOwner(gpu);
    const parts = gpu.collect(() => groupHeads(gpu, everyHead({ layers: 1, heads: shape.heads }), () => 0, atOnce)[0]!);
    this.#owner.adopt(parts.tensors);
    this.parts = parts.result.map(({ only }) => only);
    const count = validTokens(layout), all = { first: 0, count };
    if (count === product(layout.grid) + layout.kept) return;
    const { result, tensors } = gpu.collect(() => {
      const list = uploadBlockList(gpu, cutBlocks(all, blockRows(gpu, shape.headDim), 0, 1), [all]);
      const order = gpu.upload(Uint32Array.from({ length: count }, (_, token) => token), [1, count], "u32");
      return { order, queries: list, keys: list };
    });
    this.#owner.adopt(tensors);
    this.plan = result;
  }

  /**
   * Computes all heads, or some.
   *
   * @param options `lse` and `only`: as those of `attention`; `into`: where to write the result, instead of to a new
   * tensor
   */
  attend(q: Tensor, k: Tensor, v: Tensor, options?: FullOptions): Tensor;
  attend(q: Tensor, k: Tensor, v: Tensor, options: FullOptions<Operand>): Operand;
  attend(q: Tensor, k: Tensor, v: Tensor, { into, lse, only }: FullOptions<Operand> = {}): Operand {
    const { gpu, plan, layout, shape: { heads } } = this;
    if (!only && !gpu.tape && this.parts.length > 1) {
      const y = into ?? attentionOutput(gpu, q, layout);
      for (const only of this.parts) this.attend(q, k, v, { into: y, only, ...lse && { lse } });
      return y;
    }
    if (!plan) return attention(gpu, q, k, v, { heads, only, ...into && { into }, ...lse && { lse } });
    if (into instanceof PackedOperand) throw new Error("full attention with padding writes no packed operand");
    if (gpu.tape) throw new Error("full attention with padding has no backward pass: train with VortaAttention");
    const y: Tensor = into ?? attentionOutput(gpu, q, layout), count = validTokens(layout);
    if (q.dim(0) > 1) return attention(gpu, q, k, v, { heads, plan, only, into: y, ...lse && { lse } });
    // Padding lies behind all other tokens, so dense attention over the first ones leaves it out. It is faster.
    const valid = (x: Tensor) => x.reshape(x.shape.slice(1)).rows(0, count).reshape([1, count, x.dim(-1)]);
    attention(gpu, valid(q), valid(k), valid(v), { heads, only, into: valid(y), ...lse && { lse: valid(lse) } });
    return y;
  }

  [Symbol.dispose](): void {
    this.#owner[Symbol.dispose]();
  }
}

/** The method of full attention. */
export const fullAttention: AttentionMethod = {
  prepare(task) {
    const { gpu, shape, layout, lengths } = task;
    const passes = new Passes(task, (layout) => new FullAttention(gpu, shape, layout));
    return Promise.resolve({
      unobserved: true,
      at: (_, pass) => {
        const some = (q: Tensor, k: Tensor, v: Tensor, _: number, into: Operand) =>
          void passes.of(pass).attend(q, k, v, { into });
        return wholeAttention(gpu, { ...layout, length: lengths[pass]! }, some, shape.heads);
      },
      report: (ran) => ({
        density: densityOf(task, (_, pass) => validTokens({ ...layout, length: lengths[pass]! }) ** 2, ran),
      }),
      [Symbol.dispose]: () => passes[Symbol.dispose](),
    });
  },
};
