import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { activation } from "../../gpu/ops/activation.ts";
import { layerNorm } from "../../gpu/ops/layer_norm.ts";
import { modulation } from "../../gpu/ops/modulation.ts";
import { patchify, unpatchify } from "../../gpu/ops/patches.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import { Linear } from "../layers/linear.ts";
import { GridRope } from "../layers/rope.ts";
import { type HeadShape, prefixesOf, type TokenLayout } from "../attention/layout.ts";
import { type Grid, gridOf, product } from "../attention/grid.ts";
import { BlockTransformer, type LoadedWeights, loadWeights } from "../blocks/block_transformer.ts";
import type { Conditioning, EmbeddedPass, ForwardPass, TransformerOptions } from "../family.ts";
import type { Weights } from "../weights/weights.ts";
import { type BlockInputs, type BlockWeights, loadBlock, runBlock } from "./block.ts";
import { conditioned } from "./conditioned.ts";
import type { TransformerConfig } from "./config.ts";
import { ImageEmbedder } from "./image_embedder.ts";
import { timestepEmbedding } from "../layers/timestep_embedding.ts";

const ROPE_THETA = 10000;

/**
 * The most bytes of keys and values of cross-attention that a pass keeps from step to step. Those of a small model save
 * many short kernels; those of a large one would take much memory to save little time.
 */
const MOST_KEPT = 8 * 2 ** 20;

/** The weights outside the blocks. */
interface OuterWeights {
  readonly patchEmbedding: Linear;
  readonly time1: Linear;
  readonly time2: Linear;
  readonly timeProj: Linear;
  readonly text1: Linear;
  readonly text2: Linear;
  readonly image: ImageEmbedder | undefined;
  readonly projOut: Linear;
  /** [1, 2, dim]: shift and scale of the output norm */
  readonly scaleShiftTable: Tensor;
}

/** A pass of Wan's transformer. */
export interface WanPass extends EmbeddedPass, BlockInputs {
  /** [batch, dim], or [frames, dim]: the embedding of the timesteps before its projection */
  readonly temb: Tensor;
  /** The shape of the latents. */
  readonly latents: readonly number[];
}

/** Predicts the velocity of a noisy latent video. */
export class WanTransformer3DModel extends BlockTransformer<OuterWeights, BlockWeights, WanPass> {
  readonly #rope: GridRope;

  private constructor(
    gpu: Gpu,
    readonly config: TransformerConfig,
    loaded: LoadedWeights<OuterWeights, BlockWeights>,
  ) {
    super(gpu, loaded);
    // Rows and columns get a third of the channels each, rounded down to pairs; frames get the rest.
    const { headDim } = config, space = 2 * Math.floor(headDim / 6);
    this.#rope = new GridRope(gpu, [headDim - 2 * space, space, space], ROPE_THETA);
  }

  /**
   * Uploads the weights as {@link loadWeights} does.
   *
   * @param source owned by the caller
   */
  static async load(
    gpu: Gpu,
    source: TensorSource,
    config: TransformerConfig,
    options?: TransformerOptions,
  ): Promise<WanTransformer3DModel> {
    const stored = { prefixes: prefixesOf(config), load: (weights: Weights) => loadBlock(weights, config) };
    const loaded = await loadWeights(gpu, source, stored, (weights) => loadOuter(weights, config), options);
    return new WanTransformer3DModel(gpu, config, loaded);
  }

  get shape(): HeadShape {
    return this.config;
  }

  layout(latents: readonly number[], { frames }: Omit<Conditioning, "text"> = {}): TokenLayout {
    return { grid: gridOf(latents, this.config.patchSize), kept: 0, ...frames && { known: frames.dim(2) } };
  }

  embed({ latents, timesteps, conditioning, selfAttention, cache, constants }: ForwardPass): WanPass {
    const { gpu, config, outer } = this, { grid } = this.layout(latents.shape), { textLength } = conditioning;
    const kept = constants && this.#keysBytes(conditioning) <= MOST_KEPT ? constants : undefined;
    const keep = <T extends readonly Tensor[]>(name: string, make: () => T) => kept?.get(this, name, make) ?? make();
    checkPositions(config, grid);
    const rope = { table: this.#rope.of(grid) }, times = timesOfFrames(timesteps, conditioning, grid);
    const made = keep("context", () => this.#context(conditioning)), [text, image] = made;
    const [x, temb, time] = gpu.scope(() => {
      const patches = patchify(gpu, conditioned(gpu, latents, conditioning), config.patchSize);
      const x = outer.patchEmbedding.apply(gpu, patches), temb = this.embedTime(times);
      const time = outer.timeProj.apply(gpu, activation(gpu, temb, "silu")).reshape([times.length, 6, config.dim]);
      return [x, temb, time] as const;
    });
    const tensors = [temb, time, ...kept ? [] : made];
    const context = { text, textLength, image, keep };
    return { ...context, x, temb, time, rope, selfAttention, cache, tensors, latents: latents.shape };
  }

  protected override forwardBlock(
    block: BlockWeights,
    x: Tensor,
    pass: WanPass,
    layer: number,
    release?: () => void,
  ): Tensor {
    return runBlock(this.gpu, block, this.config, x, pass, layer, release);
  }

  protected override modulatedInput({ temb }: WanPass): Tensor {
    return temb;
  }

  project(x: Tensor, { temb, latents: [batch, , ...size] }: WanPass): Tensor {
    const { gpu, config, outer } = this;
    return gpu.scope(() => {
      const mod = modulation(gpu, outer.scaleShiftTable, temb);
      const vector = (index: number) => ({ tensor: mod, index });
      const norm = layerNorm(gpu, x, config.eps, { shift: vector(0), scale: vector(1) });
      const rows = outer.projOut.applyInParts(gpu, norm);
      return unpatchify(gpu, rows, [batch!, config.outChannels, ...size], config.patchSize);
    });
  }

  /** Text and image tokens in the transformer's channels. */
  #context({ text, image }: Conditioning): readonly [text: Tensor] | readonly [text: Tensor, image: Tensor] {
    const { gpu, outer: { text1, text2, image: embedder } } = this;
    if (embedder && !image) throw new TilereelError("this transformer makes video of a picture; give it one");
    return gpu.scope(() => {
      const embedded = text2.apply(gpu, text1.apply(gpu, text, { activation: "gelu_tanh" }));
      return embedder ? [embedded, embedder.apply(gpu, image!)] as const : [embedded] as const;
    });
  }

  /** The bytes of all keys and values of cross-attention, at most. */
  #keysBytes({ text, image }: Conditioning): number {
    const { dim, layers } = this.config, tokens = text.dim(1) + (image?.dim(1) ?? 0);
    return layers * 2 * 4 * dim * tokens;
  }

  /** The embedding of each timestep, before its projection to shift, scale and gate. */
  protected override embedTime(timesteps: readonly number[]): Tensor {
    const { gpu, outer, config } = this;
    const sinusoid = gpu.upload(timestepEmbedding(timesteps, config.freqDim), [timesteps.length, config.freqDim]);
    return outer.time2.apply(gpu, outer.time1.apply(gpu, sinusoid, { activation: "silu" }));
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#rope[Symbol.dispose]();
  }
}

/** The timestep of each batch item. Where some frames are known, of each frame: theirs is 0. */
function timesOfFrames(timesteps: readonly number[], { frames }: Conditioning, [count]: Grid): readonly number[] {
  if (!frames) return timesteps;
  return Array.from({ length: count }, (_, frame) => frame < frames.dim(2) ? 0 : timesteps[0]!);
}

/** @throws {TilereelError} if the grid is longer than the model's number of positions */
function checkPositions({ ropeMaxSeqLen }: TransformerConfig, grid: Grid): void {
  if (Math.max(...grid) <= ropeMaxSeqLen) return;
  throw new TilereelError(
    `a clip of ${grid.join(" × ")} tokens is too long: this model knows ${ropeMaxSeqLen} positions per axis; ` +
      `use a smaller size or fewer frames`,
  );
}

async function loadOuter(weights: Weights, config: TransformerConfig): Promise<OuterWeights> {
  const { dim, patchSize, inChannels, outChannels, freqDim, textDim, images } = config, patch = product(patchSize);
  const embedder = weights.scope("condition_embedder.");
  return {
    patchEmbedding: await Linear.load(weights, "patch_embedding", dim, inChannels * patch, {
      stored: [dim, inChannels, ...patchSize],
    }),
    time1: await Linear.load(embedder, "time_embedder.linear_1", dim, freqDim),
    time2: await Linear.load(embedder, "time_embedder.linear_2", dim, dim),
    timeProj: await Linear.load(embedder, "time_proj", 6 * dim, dim),
    text1: await Linear.load(embedder, "text_embedder.linear_1", dim, textDim),
    text2: await Linear.load(embedder, "text_embedder.linear_2", dim, dim),
    image: images && await ImageEmbedder.load(embedder.scope("image_embedder."), images, dim),
    projOut: await Linear.load(weights, "proj_out", outChannels * patch, dim),
    scaleShiftTable: await weights.vector("scale_shift_table", [1, 2, dim]),
  };
}
