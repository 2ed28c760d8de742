import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { product } from "../attention/grid.ts";
import type { HeadShape } from "../attention/layout.ts";
import type { HostTensor } from "../conditioning.ts";
import type { FamilyModel } from "../family.ts";
import type { PassName } from "../guidance.ts";
import type { ClipSize } from "../video_size.ts";

/** What the authors of caches measured with models of a family. Caches take it where the user gives nothing. */
export interface CacheNumbers {
  /** EasyCache's */
  readonly easy?: { readonly threshold: number; readonly first: number };
  /** TeaCache's: for each shape of a model its polynomial, highest power first, and the threshold that goes with it. */
  readonly tea?: readonly {
    readonly layers: number;
    readonly heads: number;
    readonly coefficients: readonly number[];
    readonly threshold: number;
  }[];
}

/** The task that a cache is prepared for: the schedule of one clip. */
export interface CacheTask {
  readonly gpu: Gpu;
  /** Its family has numbers for some caches, see {@link CacheNumbers}. */
  readonly model: Pick<FamilyModel, "family" | "shape">;
  /** The passes of each step. */
  readonly passes: readonly PassName[];
  /** The timesteps of all denoising steps. */
  readonly timesteps: readonly number[];
  /** The share of noise before each step, and 0 after the last. */
  readonly sigmas: readonly number[];
  /** The number of leading tokens that are the clip's. Those behind them are kept tokens, such as text, and padding. */
  readonly gridTokens: number;
  /** What {@link PreparedCache.kept} gave after a step, if the clip goes on from there. */
  readonly from?: CacheStart | undefined;
}

/** What a cache keeps from one step to the next, by name. */
export interface KeptByCache {
  /** They stay the cache's. */
  readonly tensors: Readonly<Record<string, Tensor>>;
  /** Some of them may have to be read from the GPU. */
  readonly numbers: Promise<Readonly<Record<string, number>>>;
}

/** So too in this machine's memory. */
export interface CacheStart {
  readonly tensors: Readonly<Record<string, HostTensor>>;
  readonly numbers: Readonly<Record<string, number>>;
}

/**
 * A kind of step cache with its settings: it reuses results of an earlier step that have hardly changed. Only
 * `VideoPipeline.generate` and `sampleLatents` run one, and only where it is asked for: trainings and the sampling runs
 * that they learn from never use a cache.
 */
export interface StepCache {
  /**
   * Whether a clip that was broken off can go on: the cache keeps little enough to be saved, and gives it
   * ({@link PreparedCache.kept}). Default: no
   */
  readonly resumable?: boolean;
  /**
   * The number of tensors of the tokens' size, [tokens, dim] in f32, that it holds at most for each pass, temporary
   * ones included. It decides where the weights are kept.
   *
   * @param f16 whether operands are held in f16
   */
  tensors(shape: HeadShape, f16: boolean): number;
  /**
   * Checks what needs no GPU, before a model is loaded.
   *
   * @throws {TilereelError} if it does not fit the model
   */
  check?(model: CacheTask["model"]): void;
  /**
   * Prepares for one clip, before its first step.
   *
   * @throws {TilereelError} if it does not fit the model, or memory runs out
   */
  prepare(task: CacheTask): Promise<PreparedCache>;
}

/**
 * A cache that is prepared for one clip. It holds GPU memory until it is disposed of, also after an abort: a
 * `TensorOwner` keeps what must outlive a hook.
 */
export interface PreparedCache extends Disposable {
  /**
   * Returns the hooks for a pass of one step. They are asked for once for each pass, in order.
   *
   * @param pass names the state: a cache never uses what another pass computed
   */
  at(step: number, pass: PassName): CacheHooks;
  /** What is kept for the next step. It is called between two steps. A cache that is `resumable` has it. */
  kept?(): KeptByCache;
}

/**
 * What a cache does in a pass of one step. A hook that is absent does nothing.
 *
 * Tensors that a hook is given are lent to it. It returns a new tensor, which the pass frees; `attention` says what else it
 * may return. Work is recorded
 * before it is computed, so that no hook sees numbers unless it reads them:
 *
 * - A hook that may wait can `await gpu.read(…)` a distance between tensors. The GPU then has nothing to do until the
 *   number is here and the next block is recorded; Deno looks every 10 ms only. `velocity` costs that once a pass.
 * - To decide one step late costs nothing: call `gpu.read(…)`, which copies at once, keep its promise (with a `catch`,
 *   since an abort may leave it alone), and await it in the next step, when it has long been fulfilled.
 */
export interface CacheHooks {
  /**
   * Called before a pass. It may return the velocity, in the shape of the latents, and the pass is not run (EasyCache).
   * In a hook that waits, no scope frees temporary tensors: compute in `gpu.scope`.
   */
  velocity?(latents: Tensor): Promise<Tensor | undefined>;
  /** Shown the velocity that a pass predicted; not called where {@link velocity} returned one. */
  predicted?(latents: Tensor, velocity: Tensor): void;
  /**
   * Called before each block, and once after the last. It may return the result of the blocks that remain, and they are
   * not run (TeaCache before block 0, FirstBlockCache before block 1). As with {@link velocity}, no scope is open.
   */
  remaining?(state: BlockState): Promise<Tensor | undefined>;
  /**
   * Stands for an attention module's output: after its output projection, before gate and residual (PAB). Where a block
   * projects attention together with something else, as single-stream blocks do, it is attention's part of that.
   *
   * @param compute computes [batch, tokens, dim] anew. The block frees it, unless `TensorOwner.adopt` takes it over
   * @returns that, another new tensor, which the block frees, or a tensor that the cache owns
   */
  attention?(layer: number, module: AttentionModule, compute: () => Tensor): Tensor;
}

/** An attention module of a block: between the clip's tokens, or to the text where a family has that apart. */
export type AttentionModule = "self" | "cross";

/** A pass between two blocks. */
export interface BlockState {
  /** The number of blocks that were run: the index of the next, or of none where all were. */
  readonly layer: number;
  /** [batch, tokens, dim]: the input of the next block */
  readonly x: Tensor;
  /** Gives `x` to the cache, which may free it after the next block. Without this, the pass frees it then. */
  keep(): Tensor;
  /** What a family has TeaCache compare before block 0, lent as `x` is; see `BlockTransformer.modulatedInput`. */
  modulatedInput(): Promise<Tensor | undefined>;
}

/** The computations that a cache saved in one clip, for each pass. */
export type CacheReport = ReadonlyMap<PassName, SparedWork>;

/** The computations that were saved in a pass, over all steps. */
export interface SparedWork {
  /** The steps whose velocity the cache gave. */
  readonly steps: number;
  /** The blocks that were not run, in those steps and in others. */
  readonly blocks: number;
  /** The outputs of attention modules that were used again. */
  readonly attentions: number;
}

/** The most bytes that a cache holds while a clip is denoised, which is beside `FamilyModel.denoisingBytes`. */
export function cacheBytes(
  cache: StepCache | undefined,
  model: Pick<FamilyModel, "shape" | "layout" | "passes">,
  clip: ClipSize,
  guidance: number,
  f16: boolean,
): number {
  if (!cache) return 0;
  const { shape } = model, { grid, kept } = model.layout(clip);
  const tensor = 4 * (product(grid) + kept) * shape.heads * shape.headDim;
  return model.passes(guidance).length * cache.tensors(shape, f16) * tensor;
}
