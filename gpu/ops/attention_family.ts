import { cutBlocks, type Run, uploadBlockList } from "../attention_plan.ts";
import type { Gpu } from "../gpu.ts";
import { forwardRows, type ForwardVariant, forwardVariants, int8Variants } from "../kernels/attention/variants.ts";
import { memo } from "../kernels/memo.ts";
import type { KernelFamily } from "../tuning/family.ts";
import { noise } from "../tuning/noise.ts";
import { runForward } from "./attention_forward.ts";
import type { AttentionPattern } from "./attention_launch.ts";

/**
 * The size of the trial's self-attention. There are enough blocks that every core of a large GPU gets several. With a
 * plan, each block is short, so there are enough that the last, partly filled round of blocks matters little.
 */
const TRIAL = { heads: 12, tokens: 8192, tokensByPlan: 16384 };
const SAMPLE = { heads: 3, tokens: 333 };

/** The properties that decide which family of kernels is used. */
export interface ForwardUse {
  /** A variant that is fast for one head dimension may be slow for another. */
  readonly headDim: number;
  /** With a plan, the positions of the next keys must be looked up. Some kernels hide that better than others. */
  readonly plan: boolean;
  /** The kernels of precision int8. */
  readonly int8?: boolean;
  /** There are at most {@link FEW_KEYS}. */
  readonly few?: boolean;
}

/**
 * With so few keys, beginning and ending take a workgroup of matrix units as long as its keys. The first variant has small
 * workgroups, some of which a multiprocessor runs at once: others compute meanwhile.
 */
export const FEW_KEYS = 256;

/** The kernels of attention's forward pass for one use, from which a trial chooses the fastest for an adapter. */
export const forwardFamily = memo((
  { headDim, plan, int8 = false, few = false }: ForwardUse,
): KernelFamily<ForwardVariant> => ({
  name: `attention ${headDim}${plan ? " by a plan" : ""}${int8 ? " in int8" : ""}${few ? " to few keys" : ""}`,
  variants: (gpu) => int8 ? int8Variants(gpu, headDim) : forwardVariants(gpu, headDim),
  trial(gpu) {
    const { heads } = TRIAL, tokens = plan ? TRIAL.tokensByPlan : TRIAL.tokens;
    const shape = [1, tokens, heads * headDim];
    // Two different tensors. If a query met itself among the keys, sums would be rescaled often, which is rare in
    // models.
    const q = noise(gpu, shape), k = noise(gpu, shape, "f32", 1);
    const pattern = patternFor(gpu, plan, heads, tokens);
    // Uploaded before the timing starts, and kept.
    for (const variant of forwardVariants(gpu, headDim).values()) pattern(forwardRows(variant, headDim));
    return (variant) =>
      gpu.scope(() =>
        runForward(gpu, variant, pattern(forwardRows(variant, headDim)), { q, k, v: q, y: gpu.tensor(shape) })
      );
  },
  // The scores differ so much that running sums must be rescaled.
  sample(gpu, variant) {
    const { heads, tokens } = SAMPLE, shape = [1, tokens, heads * headDim];
    const pattern = { ...patternFor(gpu, plan, heads, tokens)(forwardRows(variant, headDim)), scale: 1 };
    const [q, k, v] = [noise(gpu, shape), noise(gpu, shape, "f32", 1), noise(gpu, shape, "f32", 2)];
    const y = gpu.tensor(shape);
    runForward(gpu, variant, pattern, { q, k, v, y });
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
  return memo((rows) => {
    const runs: Run[] = [];
    const blocks = tiles.flatMap((tile, i) => {
      const seen = seenBy(i), blocks = cutBlocks(tile, rows, runs.length, seen.length);
      runs.push(...seen);
      return blocks;
    });
    return { heads, plan: { order, queries: uploadBlockList(gpu, blocks, runs) } };
  });
}

/** The variant that a device uses; undefined is the plain kernel. Int8 is used where the device has kernels for it. */
export function forwardVariant(
  gpu: Gpu,
  { int8 = false, few = false, ...use }: ForwardUse,
): ForwardVariant | undefined {
  if (gpu.kernels.plain) return undefined;
  const isInt8 = int8 && int8Variants(gpu, use.headDim).size > 0;
  const picked = gpu.kernels.pick(forwardFamily(isInt8 ? { ...use, int8 } : use));
  return few && !isInt8 && picked.kernel === "matrix" ? gpu.kernels.pick(forwardFamily({ ...use, few })) : picked;
}

/**
 * The number of slots of a block for this device's kernels. Blocks may be shorter, at a loss, but not longer. So
 * kernels must be chosen (`KernelPicker.choose`) before plans are made.
 */
export function blockRows(gpu: Gpu, headDim: number): number {
  return forwardRows(forwardVariant(gpu, { headDim, plan: true, int8: gpu.int8 }), headDim);
}
