import type { Gpu } from "../gpu.ts";
import { attentionBackwardPlain, attentionBackwardTiled, PLAIN_BACKWARD_ROWS } from "../kernels/attention/backward.ts";
import { TILE } from "../kernels/attention/tiles.ts";
import type { Operands } from "../precision.ts";
import { Tensor } from "../tensor.ts";
import type { ForwardVariant } from "../kernels/attention/variants.ts";
import { blockRows, FEW_KEYS, type ForwardUse, forwardVariant } from "./attention_family.ts";
import { holdsHalves, isHeld, packsHalves, runForward } from "./attention_forward.ts";
import { packedHalves } from "./attention_pack.ts";
import { type AttentionPattern, headDimOf, launchAttention } from "./attention_launch.ts";
import { backwardByMatrixUnits, type BackwardOperands, backwardTiles } from "./attention_backward.ts";
import { zeros } from "./elementwise.ts";
import { sharedForms } from "./gemm.ts";
import { headDots } from "./head_dots.ts";
import { type Operand, PackedOperand } from "./packed_operand.ts";
import { groupOf } from "../kernels/gemm/pack.ts";

/** With fewer keys, such as those of a text, attention is not computed in int8: it takes little time. */
const INT8_KEYS = 1024;

export interface AttentionOptions<Into extends Operand = Tensor> extends AttentionPattern {
  /** [heads, queries, keys], f32: added to the scaled scores, the same for every batch item. Not with a plan. */
  readonly bias?: Tensor;
  /**
   * [batch], u32: the number of keys of each batch item that take part, at least one. Default: all. Not with a plan.
   */
  readonly keyLengths?: Tensor;
  /**
   * The number of keys that the last one stands for, where more keys and values equal to it would follow. Default: 1. Not
   * with a plan.
   */
  readonly lastKeys?: number | undefined;
  /**
   * [batch, queries, heads · head dim], f32, or {@link packedOutput}: where to write the result, instead of to a new
   * tensor. It may be q itself. Queries outside the plan are not written.
   */
  readonly into?: Into | undefined;
  /** [batch, queries, heads], f32: receives each query's log Σ exp(score), which the backward pass needs. */
  readonly lse?: Tensor;
}

/**
 * softmax(scale · q·kᵀ + bias)·v for each head. On a device of precision int8, long sequences and plans use less exact
 * kernels (see `int8Variants`).
 *
 * @param q [batch, queries, heads · head dim], f32; head dim a multiple of 4, on GPUs 16, 32, 64 or 128
 * @param k [batch, keys, heads · head dim], f32; or {@link heldKeys}
 * @param v [batch, keys, heads · head dim], f32, or f16 where it {@link takesHalves}; or {@link heldKeys}
 * @returns [batch, queries, heads · head dim], f32; or `into`
 */
export function attention(gpu: Gpu, q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): Tensor;
export function attention(gpu: Gpu, q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions<Operand>): Operand;
export function attention(gpu: Gpu, q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions<Operand>): Operand {
  const { heads, plan, bias, keyLengths, lastKeys = 1 } = options;
  const headDim = headDimOf(gpu, q, heads);
  if (plan && (bias || keyLengths || lastKeys > 1)) {
    throw new Error("attention: a plan takes neither a bias nor key lengths nor repeated keys");
  }
  const y = options.into ?? gpu.tensor(q.shape);
  const lse = options.lse ?? (gpu.tape ? gpu.tensor([q.dim(0), q.dim(1), heads]) : undefined);
  const tensors = { q, k, v, bias, keyLengths, y, lse, lastKeys };
  // With a bias, sequences are texts.
  const int8 = gpu.int8 && !bias && lastKeys === 1 && (plan !== undefined || k.dim(-2) >= INT8_KEYS) && !isHeld(k);
  const few = !plan && k.dim(-2) <= FEW_KEYS;
  runForward(gpu, forwardVariant(gpu, { headDim, plan: plan !== undefined, int8, few }), options, tensors);
  if (gpu.tape && y instanceof Tensor && !options.into) {
    if (bias || keyLengths || lastKeys > 1) {
      throw new Error("attention has no gradient where there is a bias, key lengths or repeated keys");
    }
    const { products } = gpu.tape;
    gpu.tape.record(y, [q, k, v], (dy, wanted) => {
      const gradient = (of: Tensor, needed: boolean | undefined) => needed ? zeros(gpu, of.shape) : undefined;
      const dq = gradient(q, wanted[0]);
      const both = wanted[1] || wanted[2];
      const dk = gradient(k, both), dv = gradient(v, both);
      const dotY = headDots(gpu, dy, y, heads);
      attentionBackward(gpu, { q, k, v, dy, lse: lse!, dotY }, { dq, dk, dv }, options, { products });
      return [dq, dk, dv];
    });
  }
  return y;
}

/** The kernels of attention by any plan and to any number of keys. */
function anyVariants(gpu: Gpu, headDim: number): (ForwardVariant | undefined)[] {
  const one = { headDim, plan: false }, planned = { headDim, plan: true }, { int8 } = gpu;
  const uses: ForwardUse[] = [one, planned, { ...one, few: true }, { ...one, int8 }, { ...planned, int8 }];
  return uses.map((use) => forwardVariant(gpu, use));
}

/**
 * An output of attention, by any plan and to any number of keys, that is used only as the input of products with weights
 * like `next`: packed as these read it fastest.
 *
 * @returns an operand with undefined contents; undefined where kernels do not write in this form
 */
export function packedOutput(gpu: Gpu, q: Tensor, heads: number, next: Operand): PackedOperand | undefined {
  const dim = q.dim(-1), { x: form } = sharedForms(gpu, q.size / dim, next);
  // What panels have past a row's end must be zeros, which are not written here.
  if (form?.numbers !== "f16" || !form.panel || dim % (groupOf("f16") * form.panel.depth) !== 0) return undefined;
  const packs = anyVariants(gpu, headDimOf(gpu, q, heads)).every((variant) => variant?.kernel === "matrix");
  return packs ? PackedOperand.empty(gpu, q.shape, form) : undefined;
}

/**
 * Queries that nothing else reads, where attention does best to write over them; a backward pass needs them. A tiled kernel
 * reads queries in each step; from a buffer that it also writes, that may take longer. It spares memory only where the
 * result of a block's norm is packed: otherwise a block holds as much while it makes q, k and v.
 */
export const overQueries = ({ kernels, matrixUnits, int8, tape }: Gpu, q: Tensor): Tensor | undefined =>
  !tape && (kernels.plain || matrixUnits !== undefined || int8) ? q : undefined;

/**
 * Whether attention by any plan and to any number of keys rounds values to f16, and may be given them so. Not while a tape
 * is open.
 *
 * @param dim heads · head dim
 */
export function takesHalves(gpu: Gpu, dim: number, heads: number): boolean {
  return !gpu.tape && anyVariants(gpu, dim / heads).every(packsHalves);
}

/**
 * Keys or values as kernels without a plan hold them, so that they are packed once for several queries. Attention takes
 * the result in place of x. While a tape is open, it is x.
 *
 * @param x [batch, keys, heads · head dim], f32
 * @returns [batch, heads, keys, head dim], f16; or x
 */
export function heldKeys(gpu: Gpu, x: Tensor, heads: number): Tensor {
  const variant = forwardVariant(gpu, { headDim: headDimOf(gpu, x, heads), plan: false });
  return !gpu.tape && holdsHalves(variant) ? packedHalves(gpu, { heads }, [{ x }])[0]! : x;
}

/** Options of {@link attentionBackward}. */
export interface AttentionBackwardOptions {
  /** [batch, heads], f32: a factor for the gradients of each head. Default: 1 */
  readonly headScale?: Tensor | undefined;
  /** With "f16", matrix units are used where the device has them. `dy` must be scaled so that f16 holds it. Default: f32 */
  readonly products?: Operands;
}

/**
 * Adds the gradients of q, k, v to `into`.
 *
 * @param input the operands and the `lse` of the forward pass; the gradient `dy` of the output, of the same shape; and
 * [batch, queries, heads], f32: Σ dy·y over a head's channels, see `headDots`
 * @param into gradients, each of the shape of its operand; dk and dv must be given together
 */
export function attentionBackward(
  gpu: Gpu,
  operands: BackwardOperands,
  into: Readonly<Record<"dq" | "dk" | "dv", Tensor | undefined>>,
  pattern: AttentionPattern,
  { headScale, products = "f32" }: AttentionBackwardOptions = {},
): void {
  const { q, k, v, dy, lse, dotY } = operands, { dq, dk, dv } = into;
  const { heads, plan } = pattern;
  const headDim = headDimOf(gpu, q, heads);
  const tiles = products === "f16" ? backwardTiles(gpu, headDim) : undefined;
  if (tiles) {
    backwardByMatrixUnits(gpu, operands, into, pattern, tiles, blockRows(gpu, headDim), headScale);
    return;
  }
  const variant = { headDim, plan: plan !== undefined };
  const kernel = gpu.kernels.plain ? attentionBackwardPlain : attentionBackwardTiled;
  const rows = gpu.kernels.plain ? PLAIN_BACKWARD_ROWS(headDim) : TILE;
  const buffers = {
    ...{ q, k, v, dy, lse, dot_y: dotY, head_scale: headScale ?? gpu.placeholder },
    key_lengths: gpu.placeholder,
  };
  const shared = {
    ...{ pattern, rows, blockRows: blockRows(gpu, headDim) },
    params: { has_head_scale: headScale ? 1 : 0, has_lengths: 0 },
  };
  if (dq) {
    launchAttention(gpu, {
      ...shared,
      kernel: kernel({ ...variant, of: "q" }),
      ...{ list: plan?.queries, outer: q, inner: k.dim(1), buffers: { ...buffers, dq } },
    });
  }
  if (dk && dv) {
    if (plan && !plan.keys) throw new Error("attention: this plan has no lists for the gradients of keys and values");
    launchAttention(gpu, {
      ...shared,
      kernel: kernel({ ...variant, of: "kv" }),
      ...{ list: plan?.keys, outer: k, inner: q.dim(1), buffers: { ...buffers, dk, dv } },
    });
  }
}
