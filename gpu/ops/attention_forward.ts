/**
 * The forward pass of attention on GPUs, by the fastest kernel for the adapter.
 *
 * @module
 */
import { type BlockList, cutBlocks, type Run, uploadBlockList } from "../attention_plan.ts";
import type { Gpu } from "../gpu.ts";
import { attentionMatrix } from "../kernels/attention/matrix.ts";
import { PACK_THREADS, packKeys } from "../kernels/attention/pack.ts";
import { attentionPlain, PLAIN_ROWS } from "../kernels/attention/plain.ts";
import { attentionTiled } from "../kernels/attention/tiled.ts";
import { forwardRows, type ForwardVariant, forwardVariants } from "../kernels/attention/variants.ts";
import { memo } from "../kernels/memo.ts";
import type { Tensor } from "../tensor.ts";
import type { KernelFamily } from "../tuning/family.ts";
import { noise } from "../tuning/noise.ts";
import { type AttentionPattern, launchAttention, orderStride } from "./attention_launch.ts";

/** The operands; for their shapes see `attention`. */
export interface ForwardTensors {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly bias?: Tensor | undefined;
  readonly keyLengths?: Tensor | undefined;
  readonly y: Tensor;
  readonly lse?: Tensor | undefined;
}

/**
 * The size of the trial's self-attention. There are enough blocks that every core of a large GPU gets several. With a
 * plan, each block is short, so there are enough that the last, partly filled round of blocks matters little.
 */
const TRIAL = { heads: 12, tokens: 8192, tokensByPlan: 16384 };
/** The size of the sample. */
const SAMPLE = { heads: 3, tokens: 333 };

/** The properties that decide which family of kernels is used. */
export interface ForwardUse {
  /** A variant that is fast for one head dimension may be slow for another. */
  readonly headDim: number;
  /** With a plan, the positions of the next keys must be looked up. Some kernels hide that better than others. */
  readonly plan: boolean;
}

/** The kernels for one use. */
export const forwardFamily = memo(({ headDim, plan }: ForwardUse): KernelFamily<ForwardVariant> => ({
  name: `attention ${headDim}${plan ? " by a plan" : ""}`,
  variants: (gpu) => forwardVariants(gpu, headDim),
  trial(gpu) {
    const { heads } = TRIAL, tokens = plan ? TRIAL.tokensByPlan : TRIAL.tokens;
    const shape = [1, tokens, heads * headDim];
    // Two different tensors. If a query met itself among the keys, sums would be rescaled often, which is rare in
    // models.
    const q = noise(gpu, shape), k = noise(gpu, shape, "f32", 1);
    const pattern = patternFor(gpu, plan, heads, tokens);
    // Uploaded before the timing starts, and kept.
    for (const variant of forwardVariants(gpu, headDim).values()) pattern(forwardRows(variant));
    return (variant) =>
      gpu.scope(() => runForward(gpu, variant, pattern(forwardRows(variant)), { q, k, v: q, y: gpu.tensor(shape) }));
  },
  // The scores differ so much that running sums must be rescaled.
  sample(gpu, variant) {
    const { heads, tokens } = SAMPLE, shape = [1, tokens, heads * headDim];
    const pattern = { ...patternFor(gpu, plan, heads, tokens)(rowsOf(variant, headDim)), scale: 1 };
    const [q, k, v, y] = [
      noise(gpu, shape),
      noise(gpu, shape, "f32", 1),
      noise(gpu, shape, "f32", 2),
      gpu.tensor(shape),
    ];
    if (variant) runForward(gpu, variant, pattern, { q, k, v, y });
    else runPlain(gpu, pattern, { q, k, v, y });
    return y;
  },
}));

/**
 * The lengths of the tiles of the trial's plan, repeated. At the borders of a grid, tiles are partial. A query tile
 * attends to one in this many.
 */
const TILES = [128, 112, 128, 112, 128, 112, 128, 112, 64], TILES_FOR_ONE = 4;

/**
 * Makes the trial's plan: all pairs, or tiles whose tokens are scattered in memory. The returned function takes the
 * largest number of slots of a block.
 */
function patternFor(gpu: Gpu, plan: boolean, heads: number, tokens: number): (rows: number) => AttentionPattern {
  if (!plan) return () => ({ heads });
  // 5 and the number of tokens have no common factor.
  const order = gpu.upload(Uint32Array.from({ length: tokens }, (_, i) => i * 5 % tokens), [1, tokens], "u32");
  const tiles: Run[] = [];
  for (let first = 0; first < tokens;) {
    const count = Math.min(TILES[tiles.length % TILES.length]!, tokens - first);
    tiles.push({ first, count });
    first += count;
  }
  /**
   * Each tile attends to itself and to others. Adjacent tiles attend to different tiles, as in real models, so caches
   * do not help.
   */
  const seenBy = (own: number) => tiles.filter((_, i) => (i - own) % TILES_FOR_ONE === 0);
  const lists = new Map<number, BlockList>();
  return (rows) => {
    let queries = lists.get(rows);
    if (!queries) {
      const runs: Run[] = [];
      const blocks = tiles.flatMap((tile, i) => {
        const seen = seenBy(i), blocks = cutBlocks(tile, rows, runs.length, seen.length);
        runs.push(...seen);
        return blocks;
      });
      lists.set(rows, queries = uploadBlockList(gpu, blocks, runs));
    }
    return { heads, plan: { order, queries } };
  };
}

/** The number of slots of a block: that of a variant, or of the plain kernels. */
const rowsOf = (variant: ForwardVariant | undefined, headDim: number) =>
  variant ? forwardRows(variant) : PLAIN_ROWS(headDim);

/**
 * The number of slots of a block for this device's kernels. Blocks may be shorter, at a loss, but not longer. So
 * kernels must be chosen (`KernelPicker.choose`) before plans are made.
 */
export function blockRows(gpu: Gpu, headDim: number): number {
  return rowsOf(gpu.kernels.plain ? undefined : gpu.kernels.pick(forwardFamily({ headDim, plan: true })), headDim);
}

/** Records the forward pass. A plan's blocks must be of this variant's size, or shorter. */
export function runForward(
  gpu: Gpu,
  variant: ForwardVariant,
  pattern: AttentionPattern,
  tensors: ForwardTensors,
): void {
  const { q, bias, keyLengths, y, lse } = tensors;
  const { plan, heads, only } = pattern;
  const headDim = q.dim(-1) / heads, rows = forwardRows(variant);
  const call = { headDim, bias: bias !== undefined, plan: plan !== undefined, lse: lse !== undefined };
  const launch = (k: Tensor, v: Tensor) =>
    launchAttention(gpu, {
      kernel: variant.kernel === "matrix"
        ? attentionMatrix({ ...call, tile: variant.tile })
        : attentionTiled({ ...call, tile: variant.tile }),
      ...{ pattern, list: plan?.queries, rows, blockRows: rows, outer: q, inner: k.dim(1) },
      buffers: { q, k, v, ...bias && { bias }, key_lengths: keyLengths ?? gpu.placeholder, y, ...lse && { lse } },
      params: { has_lengths: keyLengths ? 1 : 0 },
    });
  if (variant.kernel === "tiled" && !variant.tile.f16) return launch(tensors.k, tensors.v);
  // Packed operands are freed after recording, even while a tape is open.
  gpu.untaped(() =>
    gpu.scope(() => {
      const [batch, tokens] = tensors.k.shape as [number, number, number];
      const chosen = only?.dim(0) ?? heads, slots = plan?.keySlots ?? plan?.order.dim(1) ?? tokens;
      const [k, v] = [0, 1].map(() => gpu.tensor([batch, slots, chosen * headDim], "f16")) as [Tensor, Tensor];
      gpu.run(packKeys({ headDim, plan: call.plan }), {
        buffers: {
          ...{ k: tensors.k, v: tensors.v, packed_k: k, packed_v: v, head_ids: only ?? gpu.placeholder },
          ...plan && { order: plan.order },
        },
        params: {
          ...{ tokens, rows: slots, heads, has_heads: only ? 1 : 0 },
          order_stride: plan ? orderStride(plan) : 0,
        },
        workgroups: [Math.ceil(slots * headDim / 8 / PACK_THREADS), chosen, batch],
      });
      launch(k, v);
    })
  );
}

/** The forward pass by the plain kernel. */
export function runPlain(
  gpu: Gpu,
  pattern: AttentionPattern,
  { q, k, v, bias, keyLengths, y, lse }: ForwardTensors,
): void {
  const { plan, heads } = pattern;
  const headDim = q.dim(-1) / heads, rows = PLAIN_ROWS(headDim);
  launchAttention(gpu, {
    kernel: attentionPlain({ headDim, bias: bias !== undefined, plan: plan !== undefined, lse: lse !== undefined }),
    ...{ pattern, list: plan?.queries, rows, blockRows: rows, outer: q, inner: k.dim(1) },
    buffers: { q, k, v, ...bias && { bias }, key_lengths: keyLengths ?? gpu.placeholder, y, ...lse && { lse } },
    params: { has_lengths: keyLengths ? 1 : 0 },
  });
}
