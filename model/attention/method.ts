import type { Gpu } from "../../gpu/gpu.ts";
import type { Family } from "../family.ts";
import type { Sigmas } from "../schedulers/sigmas.ts";
import type { TileBudget, TileLayout } from "../../gpu/tile_layout.ts";
import type { Operand } from "../../gpu/ops/packed_operand.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { HeadShape, TokenLayout } from "./layout.ts";
import type { TiledGrid } from "./tiles.ts";
import type { AttentionReport, RanAttention } from "./report.ts";

/**
 * Self-attention of one layer, between its projections.
 *
 * @param q [batch, tokens, heads · head dim], f32, after norm and RoPE; the same holds for k
 * @param gate of the shape of q, from a model whose `HeadShape` is gated, for attention that takes gates
 * @returns a tensor of the shape of q, which the block frees: a new one, or q, k or v
 */
export interface SelfAttention {
  (q: Tensor, k: Tensor, v: Tensor, layer: number, gate?: Tensor): Tensor;
  /**
   * The same without a gate, where nothing else reads q: the result may be written over it. Where attention `takesHalves`,
   * v may be in f16. If only products with weights like `next` read the result, it may be packed for them. Not while a
   * tape is open.
   */
  readonly consuming?: ((q: Tensor, k: Tensor, v: Tensor, layer: number, next?: Operand) => Operand) | undefined;
  /** Whether it is to be given gates. Default: no gates are computed */
  readonly takesGate?: boolean;
}

/** The task that attention is prepared for: the tokens and the schedule of one clip. */
export interface AttentionTask {
  readonly gpu: Gpu;
  readonly shape: HeadShape;
  /** The model's. It is needed for notes alone. */
  readonly family?: Family;
  readonly layout: TokenLayout;
  /** The number of valid kept tokens of each pass of a step: the prompt's, then the negative prompt's if there is one. */
  readonly lengths: readonly number[];
  /** The timesteps of all denoising steps. */
  readonly timesteps: readonly number[];
  /** The model's embedding of timesteps, [timesteps, dim]: the input of VORTA's routers. */
  timeEmbedding(timesteps: readonly number[]): Promise<Float32Array>;
  /** The noise levels that the user asked for, if any. */
  readonly sigmas?: Sigmas | undefined;
  /** Called with a clause that the user should know about this clip's attention. */
  readonly onNote?: ((note: string) => void) | undefined;
  /** Called with each selection of tiles (Veda) while a pass is recorded. It may record work of its own, but not wait. */
  readonly onTiles?: ((selection: SelectedTiles) => void) | undefined;
}

/** The key tiles that a method selected for some heads of a layer. */
export interface SelectedTiles {
  readonly step: number;
  readonly pass: number;
  readonly layer: number;
  readonly heads: readonly number[];
  /** [heads], u32: the same heads, each with its kind in the tables (see `headOfKind`) */
  readonly only: Tensor;
  /** [all heads, runs, 2], u32, as `selectTiles` gives them. They are freed after the call, unless they are kept. */
  readonly runs: Tensor;
  readonly layout: TileLayout;
  readonly budget: TileBudget;
  /** What the tables have, for each of the heads. */
  readonly kinds: readonly SelectedKind[];
}

/** How a head selects tiles. */
export interface SelectedKind {
  readonly tiled: TiledGrid;
  /** The number of key tiles of each query tile. */
  readonly keep: readonly number[];
}

/** A kind of attention with its settings: the interface between the pipeline and sparse attention. */
export interface AttentionMethod {
  /**
   * Checks what needs no GPU, before a model is loaded.
   *
   * @throws {TilereelError} if it does not fit the model
   */
  check?(shape: HeadShape): void;
  /**
   * Prepares for one clip, before its first step.
   *
   * @throws {TilereelError} if it does not fit the model, or memory runs out
   */
  prepare(task: AttentionTask): Promise<PreparedAttention>;
}

/** Attention that is prepared for one clip. It holds GPU memory until it is disposed of. */
export interface PreparedAttention extends Disposable {
  /**
   * Whether nobody is told of what it computes: steps may then be recorded once more, to compile their kernels.
   * Default: no
   */
  readonly unobserved?: boolean;
  /**
   * Returns the attention for a forward pass of one step. What it uploads belongs to the enclosing scope.
   *
   * @param pass an index into {@link AttentionTask.lengths}
   */
  at(step: number, pass: number): SelfAttention;
  /**
   * Reports what was computed; called after the last step.
   *
   * @param ran which attention was run at all. Default: all of it; a step cache may leave some out
   */
  report(ran?: RanAttention): AttentionReport;
}
