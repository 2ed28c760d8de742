/**
 * The way forward through attention on GPUs, by the kernel that the adapter runs fastest.
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
import { type AttentionPattern, launchWalk, orderStride } from "./attention_launch.ts";

/** What it takes; of the shapes see `attention`. */
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
 * Self-attention of the trial: so many blocks that every core of a large GPU has several, and by a plan, of which each
 * sees little, so many that it matters little how they go into whole rounds.
 */
const TRIAL = { heads: 12, tokens: 8192, tokensByPlan: 16384 };
/** That of the sample. */
const SAMPLE = { heads: 3, tokens: 333 };

/** Which calls have kernels of their own. */
export interface ForwardUse {
  /** What is fast with heads of one size may be slow with another. */
  readonly headDim: number;
  /** By a plan: where the next keys lie must be looked up, which some kernels hide better than others. */
  readonly plan: boolean;
}

/** The kernels for one use. */
export const forwardFamily = memo(({ headDim, plan }: ForwardUse): KernelFamily<ForwardVariant> => ({
  name: `attention ${headDim}${plan ? " by a plan" : ""}`,
  variants: (gpu) => forwardVariants(gpu, headDim),
  trial(gpu) {
    const { heads } = TRIAL, tokens = plan ? TRIAL.tokensByPlan : TRIAL.tokens;
    const shape = [1, tokens, heads * headDim];
    // Not one tensor for both: a query that meets itself among the keys makes sums be scaled, which is rare in models.
    const q = noise(gpu, shape), k = noise(gpu, shape, "f32", 1);
    const pattern = patternFor(gpu, plan, heads, tokens);
    // Uploaded before anything is timed, and kept.
    for (const variant of forwardVariants(gpu, headDim).values()) pattern(forwardRows(variant));
    return (variant) =>
      gpu.scope(() => runForward(gpu, variant, pattern(forwardRows(variant)), { q, k, v: q, y: gpu.tensor(shape) }));
  },
  // Scores so far apart that running sums must be scaled on the way.
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
 * Slots of the tiles of the trial's plan, over and over: at a grid's borders they are partial. One of so many is
 * seen.
 */
const TILES = [128, 112, 128, 112, 128, 112, 128, 112, 64], TILES_FOR_ONE = 4;

/**
 * All pairs; or, by a plan, tiles of tokens that lie apart in memory. What it gives takes how many slots a block may
 * have.
 */
function patternFor(gpu: Gpu, plan: boolean, heads: number, tokens: number): (rows: number) => AttentionPattern {
  if (!plan) return () => ({ heads });
  // 5 and the tokens have no common factor.
  const order = gpu.upload(Uint32Array.from({ length: tokens }, (_, i) => i * 5 % tokens), [1, tokens], "u32");
  const tiles: Run[] = [];
  for (let first = 0; first < tokens;) {
    const count = Math.min(TILES[tiles.length % TILES.length]!, tokens - first);
    tiles.push({ first, count });
    first += count;
  }
  /**
   * Its own tile among them. Neighbours see others: so it is in models, and what one has read is not at hand for the
   * next.
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

/** Slots of a block that kernels take at once: those of a variant, or the plain ones. */
const rowsOf = (variant: ForwardVariant | undefined, headDim: number) =>
  variant ? forwardRows(variant) : PLAIN_ROWS(headDim);

/**
 * Slots of a block that this device's kernels take at once. Blocks may be shorter, at a loss, but not longer: what is
 * chosen for the device (`Gpu.choose`) is to be chosen before plans are made.
 */
export function blockRows(gpu: Gpu, headDim: number): number {
  return rowsOf(gpu.software ? undefined : gpu.pick(forwardFamily({ headDim, plan: true })), headDim);
}

/** Records it. A plan's blocks must be as long as this variant wants them, or shorter. */
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
  const walk = (k: Tensor, v: Tensor) =>
    launchWalk(gpu, {
      kernel: variant.kernel === "matrix"
        ? attentionMatrix({ ...call, tile: variant.tile })
        : attentionTiled({ ...call, tile: variant.tile }),
      ...{ pattern, list: plan?.queries, rows, blockRows: rows, outer: q, inner: k.dim(1) },
      buffers: { q, k, v, ...bias && { bias }, key_lengths: keyLengths ?? gpu.placeholder, y, ...lse && { lse } },
      params: { has_lengths: keyLengths ? 1 : 0 },
    });
  if (variant.kernel === "tiled" && !variant.tile.f16) return walk(tensors.k, tensors.v);
  // What is packed is gone when this is recorded, whatever the tape wants to keep.
  gpu.untaped(() =>
    gpu.scope(() => {
      const [batch, tokens] = tensors.k.shape as [number, number, number];
      const chosen = only?.dim(0) ?? heads, slots = plan?.order.dim(1) ?? tokens;
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
      walk(k, v);
    })
  );
}

/** The way forward on software adapters. */
export function runPlain(
  gpu: Gpu,
  pattern: AttentionPattern,
  { q, k, v, bias, keyLengths, y, lse }: ForwardTensors,
): void {
  const { plan, heads } = pattern;
  const headDim = q.dim(-1) / heads, rows = PLAIN_ROWS(headDim);
  launchWalk(gpu, {
    kernel: attentionPlain({ headDim, bias: bias !== undefined, plan: plan !== undefined, lse: lse !== undefined }),
    ...{ pattern, list: plan?.queries, rows, blockRows: rows, outer: q, inner: k.dim(1) },
    buffers: { q, k, v, ...bias && { bias }, key_lengths: keyLengths ?? gpu.placeholder, y, ...lse && { lse } },
    params: { has_lengths: keyLengths ? 1 : 0 },
  });
}
