/**
 * Where the weights of a transformer's blocks are kept: all on the GPU, or on disk, from where they are streamed one
 * after the other through a few slots on the GPU.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { expectTensor, type TensorSource } from "../checkpoint/tensor_source.ts";
import { WeightSlot } from "../weight_slot.ts";
import type { WeightDtypeChoice } from "../weight_dtype.ts";
import { type OnUpload, Weights } from "../weights.ts";
import { type BlockWeights, loadBlock } from "../wan/block.ts";
import type { TransformerConfig } from "../wan/config.ts";

/** Gives the transformer its blocks, whether they stay on the GPU or are streamed from disk. */
export interface BlockSource {
  /** All blocks, where all are on the GPU. */
  readonly resident: readonly BlockWeights[] | undefined;
  /**
   * Prepares for a forward pass: weights that were dropped are loaded again.
   *
   * @throws {TilereelError} if a file cannot be read any more, or memory runs out
   */
  ready(): Promise<void>;
  /**
   * Returns the weights of a block, which are valid until the next call. Blocks are requested in order; after the last
   * comes the first.
   *
   * @throws {TilereelError} as in {@link ready}, or if the GPU is lost
   */
  at(layer: number): Promise<BlockWeights>;
  /** Frees the GPU's memory until the blocks are made ready again. Recorded work can still use them. */
  drop(): void;
}

const prefixOf = (layer: number) => `blocks.${layer}.`;

/** Keeps all blocks on the GPU. */
export class ResidentBlocks implements BlockSource {
  #weights: Weights | undefined;
  #blocks: BlockWeights[] | undefined;

  /** @param source is read when blocks are loaded; owned by the caller */
  constructor(
    private readonly gpu: Gpu,
    private readonly source: TensorSource,
    private readonly config: TransformerConfig,
    private readonly dtype: WeightDtypeChoice,
  ) {}

  get resident(): readonly BlockWeights[] {
    if (!this.#blocks) throw new Error("the blocks are not loaded");
    return this.#blocks;
  }

  async ready(onUpload?: OnUpload): Promise<void> {
    if (this.#blocks) return;
    const { gpu, source, config, dtype } = this;
    const weights = new Weights(gpu, source, { onUpload, dtype });
    try {
      const blocks: BlockWeights[] = [];
      for (let i = 0; i < config.layers; i++) blocks.push(await loadBlock(weights.scope(prefixOf(i)), config));
      weights.settle();
      this.#weights = weights;
      this.#blocks = blocks;
    } catch (error) {
      weights[Symbol.dispose]();
      throw error;
    }
  }

  at(layer: number): Promise<BlockWeights> {
    return Promise.resolve(this.resident[layer]!);
  }

  drop(): void {
    this.#weights?.[Symbol.dispose]();
    this.#weights = this.#blocks = undefined;
  }
}

/** One slot for the block that is computing, and one for the block that is loading. */
export const SLOTS = 2;

/** A block that is being loaded into a slot. */
interface Loading {
  readonly layer: number;
  readonly block: Promise<BlockWeights>;
}

/** Streams blocks through two slots: while one block computes, the next is read and uploaded. */
export class StreamedBlocks implements BlockSource {
  readonly resident = undefined;
  #slots: WeightSlot[] = [];
  #loading: Loading | undefined;
  /** Slots are used alternately. */
  #turn = 0;

  /** @param source is read as long as the transformer runs; owned by the caller */
  constructor(
    private readonly gpu: Gpu,
    private readonly source: TensorSource,
    private readonly config: TransformerConfig,
    private readonly dtype: WeightDtypeChoice,
  ) {}

  /** Starts to load the first block. Headers show that the others exist and fit. */
  async ready(): Promise<void> {
    if (this.#slots.length > 0) return;
    this.#slots = Array.from({ length: SLOTS }, () => new WeightSlot(this.gpu));
    const first = this.#slots[0]!;
    try {
      this.#turn = 0;
      await this.#load(0).block;
      for (let layer = 1; layer < this.config.layers; layer++) {
        for (const { name, shape } of first.layout) expectTensor(this.source, prefixOf(layer) + name, shape);
      }
    } catch (error) {
      this.drop();
      throw error;
    }
  }

  async at(layer: number): Promise<BlockWeights> {
    let loading = this.#loading;
    this.#loading = undefined;
    if (loading?.layer !== layer) {
      // A run was aborted. What it is still loading must be finished before anything new is loaded.
      await loading?.block.catch(() => {});
      loading = this.#load(layer);
    }
    const block = await loading.block;
    // The previous block was computed while this one was read and uploaded. Waiting for it here frees its slot for the
    // next block, and keeps the device's upload buffers from accumulating.
    await this.gpu.finish();
    this.#load((layer + 1) % this.config.layers);
    return block;
  }

  drop(): void {
    for (const slot of this.#slots.splice(0)) slot[Symbol.dispose]();
    this.#loading = undefined;
  }

  #load(layer: number): Loading {
    const { gpu, source, config, dtype } = this;
    const slot = this.#slots[this.#turn++ % SLOTS]!;
    const prefix = prefixOf(layer);
    const block = loadBlock(new Weights(gpu, source, { dtype, prefix, slot }), config);
    // The error is thrown when the block is requested, which may never happen.
    block.catch(() => {});
    return this.#loading = { layer, block };
  }
}
