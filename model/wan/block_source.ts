/**
 * Where the weights of the blocks are while a transformer runs: all on the GPU, or on disk, from where they pass
 * through a few slots on the GPU one after the other.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { expectTensor, type TensorSource } from "../checkpoint/tensor_source.ts";
import { WeightSlot } from "../weight_slot.ts";
import type { WeightDtypeChoice } from "../weight_dtype.ts";
import { type OnUpload, Weights } from "../weights.ts";
import { type BlockWeights, loadBlock } from "./block.ts";
import type { TransformerConfig } from "./config.ts";

/** Gives the transformer its blocks, whether they stay on the GPU or are streamed from disk. */
export interface BlockSource {
  /** All blocks, where all are on the GPU. */
  readonly resident: readonly BlockWeights[] | undefined;
  /**
   * Gets ready for a forward pass: what was dropped is loaded again.
   *
   * @throws {TilereelError} if a file cannot be read any more, or memory runs out
   */
  ready(): Promise<void>;
  /**
   * The weights of a block, until the next call. Blocks are asked for in turn, and begin anew behind the last.
   *
   * @throws {TilereelError} as {@link ready}, or if the GPU is lost
   */
  at(layer: number): Promise<BlockWeights>;
  /** Gives the GPU's memory back, until the blocks are made ready again. Work already recorded still runs on them. */
  drop(): void;
}

const prefixOf = (layer: number) => `blocks.${layer}.`;

/** All blocks on the GPU. */
export class ResidentBlocks implements BlockSource {
  #weights: Weights | undefined;
  #blocks: BlockWeights[] | undefined;

  /** @param source read from when blocks are loaded; the caller's */
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
      weights.release();
      throw error;
    }
  }

  at(layer: number): Promise<BlockWeights> {
    return Promise.resolve(this.resident[layer]!);
  }

  drop(): void {
    this.#weights?.release();
    this.#weights = this.#blocks = undefined;
  }
}

/** A slot for the block that computes, and one for the block that is on its way. */
export const SLOTS = 2;

/** A block on its way into a slot. */
interface Loading {
  readonly layer: number;
  readonly block: Promise<BlockWeights>;
}

/** Blocks that pass through two slots: while one computes, the next is read and uploaded. */
export class StreamedBlocks implements BlockSource {
  readonly resident = undefined;
  #slots: WeightSlot[] = [];
  #loading: Loading | undefined;
  /** Slots are taken in turn. */
  #turn = 0;

  /** @param source read from as long as the transformer runs; the caller's */
  constructor(
    private readonly gpu: Gpu,
    private readonly source: TensorSource,
    private readonly config: TransformerConfig,
    private readonly dtype: WeightDtypeChoice,
  ) {}

  /** The first block is on its way from here on; that the others are there and fit is seen by their headers. */
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
      // A run was broken off. What it still loads must not come after what is loaded now.
      await loading?.block.catch(() => {});
      loading = this.#load(layer);
    }
    const block = await loading.block;
    // The block before computed while this one was read and uploaded. Waiting for it here frees its slot for the next,
    // and keeps what the device has staged for uploads from piling up.
    await this.gpu.finish();
    this.#load((layer + 1) % this.config.layers);
    return block;
  }

  drop(): void {
    for (const slot of this.#slots.splice(0)) slot.release();
    this.#loading = undefined;
  }

  #load(layer: number): Loading {
    const { gpu, source, config, dtype } = this;
    const slot = this.#slots[this.#turn++ % SLOTS]!;
    const prefix = prefixOf(layer);
    const block = loadBlock(new Weights(gpu, source, { dtype, prefix, slot }), config);
    // Thrown where the block is asked for; that may never be.
    block.catch(() => {});
    return this.#loading = { layer, block };
  }
}
