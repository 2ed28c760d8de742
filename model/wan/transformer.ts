/**
 * `WanTransformer3DModel`: predicts the velocity of a noisy latent video.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { activation } from "../../gpu/ops/activation.ts";
import { layerNorm } from "../../gpu/ops/layer_norm.ts";
import { modulation } from "../../gpu/ops/modulation.ts";
import { patchify, unpatchify } from "../../gpu/ops/patches.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import { Linear } from "../layers/linear.ts";
import type { OnProgress } from "../progress.ts";
import type { WeightDtypeChoice } from "../weight_dtype.ts";
import { Weights } from "../weights.ts";
import type { SelfAttention } from "../attention/method.ts";
import { type BlockWeights, type Conditioning, runBlock } from "./block.ts";
import { type BlockSource, ResidentBlocks, StreamedBlocks } from "../blocks/block_source.ts";
import type { TransformerConfig } from "./config.ts";
import type { WeightsPlace } from "../blocks/weights_place.ts";
import { type Grid, gridOf, product } from "../attention/grid.ts";
import { ropeTable } from "./rope.ts";
import { timestepEmbedding } from "./time_embedding.ts";

/** The weights outside the blocks. */
interface OuterWeights {
  readonly patchEmbedding: Linear;
  readonly time1: Linear;
  readonly time2: Linear;
  readonly timeProj: Linear;
  readonly text1: Linear;
  readonly text2: Linear;
  readonly projOut: Linear;
  /** [1, 2, dim]: shift and scale of the output norm */
  readonly scaleShiftTable: Tensor;
}

/** The inputs of a forward pass. */
export interface TransformerInput {
  /** [batch, channels, frames, height, width], f32 */
  readonly hiddenStates: Tensor;
  /** One for each batch item, from 0 to 1000. */
  readonly timesteps: readonly number[];
  /** [batch, text tokens, text dim], f32 */
  readonly textEmbeddings: Tensor;
  /** Self-attention to use instead of full attention. */
  readonly selfAttention?: SelfAttention | undefined;
  /** The name of this pass in a profile. Default: "pass" */
  readonly label?: string;
}

/** Options for loading a transformer's weights. */
export interface TransformerLoadOptions {
  /** Where its blocks are kept. Default: "resident". */
  readonly place?: WeightsPlace | undefined;
  /** The format of matrices on the GPU. Default: "auto". */
  readonly dtype?: WeightDtypeChoice | undefined;
}

/** The label of a pass without a name. */
const PASS = "pass";

/** The inputs of the first block. */
export interface Embedded {
  /** [batch, tokens, dim] */
  readonly x: Tensor;
  /** [batch, dim]: the embedding of the timestep before its projection */
  readonly temb: Tensor;
  readonly conditioning: Conditioning;
}

/** A loaded transformer. */
export class WanTransformer3DModel {
  #rope: { readonly grid: string; readonly table: Tensor } | undefined;

  private constructor(
    private readonly gpu: Gpu,
    readonly config: TransformerConfig,
    private readonly weights: Weights,
    private readonly outer: OuterWeights,
    private readonly blocks: BlockSource,
  ) {}

  /**
   * Uploads the weights: all of them, or only those outside the blocks if these are streamed.
   *
   * @param source owned by the caller. It is needed as long as the transformer if blocks are streamed or {@link
   * dropBlocks} is used
   * @throws {TilereelError} if a tensor is missing, its shape or format does not match `config`, or memory runs out
   */
  static async load(
    gpu: Gpu,
    source: TensorSource,
    config: TransformerConfig,
    onProgress: OnProgress = () => {},
    { place = "resident", dtype = "auto" }: TransformerLoadOptions = {},
  ): Promise<WanTransformer3DModel> {
    const names = source.names().filter((name) => place === "resident" || !name.startsWith("blocks."));
    const total = names.reduce((sum, name) => sum + source.info(name).bytes, 0);
    const stage = "load transformer";
    let done = 0;
    onProgress({ stage, done, total });
    const onUpload = (bytes: number) => onProgress({ stage, done: done += bytes, total });
    const weights = new Weights(gpu, source, { onUpload, dtype });
    try {
      const outer = await loadOuter(weights, config);
      weights.settle();
      const blocks = new (place === "resident" ? ResidentBlocks : StreamedBlocks)(gpu, source, config, dtype);
      await blocks.ready(onUpload);
      onProgress({ stage, done: total, total });
      return new WanTransformer3DModel(gpu, config, weights, outer, blocks);
    } catch (error) {
      weights[Symbol.dispose]();
      throw error;
    }
  }

  /** Frees the weights. */
  release(): void {
    this.blocks.drop();
    this.weights[Symbol.dispose]();
    if (this.#rope) this.gpu.release(this.#rope.table);
    this.#rope = undefined;
  }

  /**
   * Frees the weights of the blocks until {@link predict} needs them again. Recorded work can still use them.
   */
  dropBlocks(): void {
    this.blocks.drop();
  }

  /**
   * Runs the forward passes of one step. If blocks are streamed, all passes use a block before it is replaced.
   *
   * @returns for each input the result of {@link forward}; owned by the caller
   * @throws {TilereelError} if weights cannot be read, memory runs out, or the GPU is lost
   */
  async predict(inputs: readonly TransformerInput[]): Promise<Tensor[]> {
    await this.blocks.ready();
    const owned = new Set<Tensor>();
    try {
      if (!this.blocks.resident) return await this.#predictTogether(inputs, owned);
      for (const input of inputs) owned.add(this.gpu.labelled(input.label ?? PASS, () => this.forward(input)));
      return [...owned];
    } catch (error) {
      for (const tensor of owned) this.gpu.release(tensor);
      throw error;
    }
  }

  /** Runs all inputs through one block, then through the next. `owned` holds the tensors to free if an error occurs. */
  async #predictTogether(inputs: readonly TransformerInput[], owned: Set<Tensor>): Promise<Tensor[]> {
    const { gpu, config } = this;
    const release = (tensor: Tensor) => {
      owned.delete(tensor);
      gpu.release(tensor);
    };
    const passes = inputs.map((input) => {
      const embedded = this.embed(input);
      const { x, temb, conditioning: { text, time } } = embedded;
      for (const tensor of [x, temb, text, time]) owned.add(tensor);
      return { ...embedded, shape: input.hiddenStates.shape };
    });
    for (let layer = 0; layer < config.layers; layer++) {
      const block = await this.blocks.at(layer);
      for (const [i, pass] of passes.entries()) {
        const x = gpu.labelled(
          inputs[i]!.label ?? PASS,
          () => this.#labelledBlock(block, layer, pass.x, pass.conditioning),
        );
        owned.add(x);
        release(pass.x);
        passes[i] = { ...pass, x };
      }
      gpu.submit();
    }
    return passes.map(({ x, temb, conditioning: { text, time }, shape }) => {
      const velocity = this.project(x, temb, shape);
      owned.add(velocity);
      for (const tensor of [x, temb, text, time]) release(tensor);
      return velocity;
    });
  }

  /**
   * Records one forward pass. The blocks must be resident.
   *
   * @returns the velocity, [batch, channels, frames, height, width], f32; owned by the caller
   */
  forward(input: TransformerInput): Tensor {
    const { gpu } = this;
    return gpu.scope(() => {
      const embedded = this.embed(input);
      let { x } = embedded;
      for (let layer = 0; layer < this.config.layers; layer++) {
        const next = this.runBlock(layer, x, embedded.conditioning);
        gpu.release(x);
        x = next;
      }
      return this.project(x, embedded.temb, input.hiddenStates.shape);
    });
  }

  /** Computes what comes before the blocks. The tensors belong to the enclosing scope, or to the caller. */
  embed({ hiddenStates, timesteps, textEmbeddings, selfAttention }: TransformerInput): Embedded {
    const { gpu, config, outer } = this;
    const rope = this.#ropeFor(this.gridOf(hiddenStates.shape));
    const [x, temb, time, text] = gpu.scope(() => {
      const x = outer.patchEmbedding.apply(gpu, patchify(gpu, hiddenStates, config.patchSize));
      const temb = this.#embedTime(timesteps);
      const time = outer.timeProj.apply(gpu, activation(gpu, temb, "silu"));
      const text = outer.text2.apply(gpu, outer.text1.apply(gpu, textEmbeddings, { activation: "gelu_tanh" }));
      return [x, temb, time.reshape([timesteps.length, 6, config.dim]), text] as const;
    });
    return { x, temb, conditioning: { text, time, rope: { table: rope }, selfAttention } };
  }

  /** Runs one block, which must be resident. It takes and returns x [batch, tokens, dim]. */
  runBlock(layer: number, x: Tensor, conditioning: Conditioning): Tensor {
    return this.#labelledBlock(this.#resident[layer]!, layer, x, conditioning);
  }

  #labelledBlock(block: BlockWeights, layer: number, x: Tensor, conditioning: Conditioning): Tensor {
    const { gpu, config } = this;
    return gpu.labelled(`block ${layer}`, () => runBlock(gpu, block, config, x, conditioning, layer));
  }

  /**
   * Computes what comes after the blocks.
   *
   * @param x [batch, tokens, dim]
   * @param temb [batch, dim]
   * @param shape the shape of the latents
   * @returns the velocity, [batch, channels, frames, height, width], f32
   */
  project(x: Tensor, temb: Tensor, [batch, , ...size]: readonly number[]): Tensor {
    const { gpu, config, outer } = this;
    return gpu.scope(() => {
      const mod = modulation(gpu, outer.scaleShiftTable, temb);
      const norm = layerNorm(gpu, x, config.eps, {
        shift: { tensor: mod, index: 0 },
        scale: { tensor: mod, index: 1 },
      });
      const rows = outer.projOut.apply(gpu, norm);
      return unpatchify(gpu, rows, [batch!, config.outChannels, ...size], config.patchSize);
    });
  }

  /** The grid of tokens of latents [batch, channels, frames, height, width]. */
  gridOf(shape: readonly number[]): Grid {
    return gridOf(shape, this.config.patchSize);
  }

  /**
   * The embedding of each timestep, before its projection to shift, scale and gate. It is the input of VORTA's routers.
   *
   * @returns [timesteps, dim]
   */
  async timeEmbedding(timesteps: readonly number[]): Promise<Float32Array> {
    const { gpu } = this;
    const temb = gpu.scope(() => this.#embedTime(timesteps));
    try {
      return await gpu.read(temb);
    } finally {
      gpu.release(temb);
    }
  }

  get #resident(): readonly BlockWeights[] {
    const { resident } = this.blocks;
    if (!resident) throw new Error("blocks that are streamed run in predict only");
    return resident;
  }

  /** @returns [batch, dim] */
  #embedTime(timesteps: readonly number[]): Tensor {
    const { gpu, outer, config } = this;
    const sinusoid = gpu.upload(timestepEmbedding(timesteps, config.freqDim), [timesteps.length, config.freqDim]);
    return outer.time2.apply(gpu, outer.time1.apply(gpu, sinusoid, { activation: "silu" }));
  }

  /** The rotation table of a grid. It is cached until the grid changes. */
  #ropeFor(grid: Grid): Tensor {
    const id = grid.join();
    if (this.#rope?.grid !== id) {
      const { headDim } = this.config;
      const table = this.gpu.keep(this.gpu.upload(ropeTable(this.config, grid), [product(grid), headDim / 2, 2]));
      if (this.#rope) this.gpu.release(this.#rope.table);
      this.#rope = { grid: id, table };
    }
    return this.#rope!.table;
  }
}

async function loadOuter(weights: Weights, config: TransformerConfig): Promise<OuterWeights> {
  const { dim, patchSize, inChannels, outChannels, freqDim, textDim } = config;
  const patch = product(patchSize);
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
    projOut: await Linear.load(weights, "proj_out", outChannels * patch, dim),
    scaleShiftTable: await weights.vector("scale_shift_table", [1, 2, dim]),
  };
}
