import type { Gpu } from "../../gpu/gpu.ts";
import { WeightSlot } from "../weights/weight_slot.ts";
import type { Weights } from "../weights/weights.ts";

/** The blocks of a transformer, as its files have them. */
export interface StoredBlocks<Block> {
  /** The weights of the transformer; owned by the caller. */
  readonly weights: Weights;
  /** For each layer the prefix of its tensors' names, in order. */
  readonly prefixes: readonly string[];
  /** Uploads a layer. */
  load(weights: Weights, layer: number): Promise<Block>;
}

/** Gives the transformer its blocks, which stay on the GPU or are streamed from disk through a few slots there. */
export interface BlockSource<Block> {
  /** All blocks, where all are on the GPU. */
  readonly resident: readonly Block[] | undefined;
  /**
   * Prepares for a forward pass: weights that were dropped are loaded again.
   *
   * @throws {TilereelError} if a file cannot be read any more, or memory runs out
   */
  ready(): Promise<void>;
  /**
   * Returns the weights of a block, which are valid until the next call. Blocks are usually requested in order, and
   * after the last comes the first: that one is read ahead. Any other may be requested, too, as after blocks that a step
   * cache skips: then the one block that was read ahead was read in vain.
   *
   * @param next the block to read ahead, where that is another one
   * @throws {TilereelError} as in {@link ready}, or if the GPU is lost
   */
  at(layer: number, next?: number): Promise<Block>;
  /** Frees the GPU's memory until the blocks are made ready again. Recorded work can still use them. */
  drop(): void;
}

/** Keeps all blocks on the GPU. */
export class ResidentBlocks<Block> implements BlockSource<Block> {
  #loaded: { readonly blocks: readonly Block[]; readonly weights: DisposableStack } | undefined;

  constructor(private readonly stored: StoredBlocks<Block>) {}

  get resident(): readonly Block[] {
    if (!this.#loaded) throw new Error("the blocks are not loaded");
    return this.#loaded.blocks;
  }

  async ready(): Promise<void> {
    if (this.#loaded) return;
    using loading = new DisposableStack();
    const weights = loading.use(this.stored.weights.scope("")), blocks: Block[] = [];
    for (const [layer, prefix] of this.stored.prefixes.entries()) {
      blocks.push(await this.stored.load(weights.scope(prefix), layer));
    }
    weights.settle();
    this.#loaded = { blocks, weights: loading.move() };
  }

  at(layer: number): Promise<Block> {
    return Promise.resolve(this.resident[layer]!);
  }

  drop(): void {
    this.#loaded?.weights.dispose();
    this.#loaded = undefined;
  }
}

/** For each kind of block, one slot for the block that is computing, and one for the block that is loading. */
export const SLOTS = 2;

/** The kind of a block, by its prefix: blocks that differ in their number only have tensors of the same shapes. */
export const kindOf = (prefix: string): string => prefix.replace(/\d+\.$/, "");

/** Streams blocks through two slots of each kind: while one block computes, the next is read and uploaded. */
export class StreamedBlocks<Block> implements BlockSource<Block> {
  readonly resident = undefined;
  /** The slots of each kind of block, which are used alternately. */
  readonly #kinds = new Map<string, { readonly slots: readonly WeightSlot[]; turn: number }>();
  /** The block that is being loaded into a slot. */
  #loading: { readonly layer: number; readonly block: Promise<Block> } | undefined;

  /** @param stored its files are read as long as the transformer runs */
  constructor(private readonly gpu: Gpu, private readonly stored: StoredBlocks<Block>) {}

  /** Starts to load the first block. Headers show that the others exist and fit the first of their kind. */
  async ready(): Promise<void> {
    if (this.#kinds.size > 0) return;
    const { gpu, stored: { weights, prefixes } } = this;
    const layersOfKind = Map.groupBy(prefixes.keys(), (layer) => kindOf(prefixes[layer]!));
    try {
      // The first layer is loaded last, for it is the first that is requested.
      for (const [kind, [first, ...others]] of [...layersOfKind].reverse()) {
        const slots = Array.from({ length: SLOTS }, () => new WeightSlot(gpu));
        this.#kinds.set(kind, { slots, turn: 0 });
        await this.#load(first!).block;
        for (const layer of others) {
          for (const { name, shape } of slots[0]!.layout) weights.expect(prefixes[layer]! + name, shape);
        }
      }
    } catch (error) {
      this.drop();
      throw error;
    }
  }

  async at(layer: number, next = (layer + 1) % this.stored.prefixes.length): Promise<Block> {
    let loading = this.#loading;
    this.#loading = undefined;
    if (loading?.layer !== layer) {
      // Blocks were skipped, or a run aborted. What is still loading must be finished before anything new is loaded.
      // That takes the slot of a block whose work is submitted: the queue writes it after that work.
      await loading?.block.catch(() => {});
      loading = this.#load(layer);
    }
    const block = await loading.block;
    // The previous block was computed while this one was read and uploaded. Waiting for it here frees its slot for the
    // next block, and keeps the device's upload buffers from accumulating.
    await this.gpu.finish();
    this.#load(next);
    return block;
  }

  drop(): void {
    for (const slot of [...this.#kinds.values()].flatMap(({ slots }) => slots)) slot[Symbol.dispose]();
    this.#kinds.clear();
    this.#loading = undefined;
  }

  #load(layer: number) {
    const { weights, prefixes } = this.stored;
    const prefix = prefixes[layer]!, kind = this.#kinds.get(kindOf(prefix))!;
    const slot = kind.slots[kind.turn++ % SLOTS]!;
    const block = this.stored.load(weights.inSlot(prefix, slot), layer);
    // The error is thrown when the block is requested, which may never happen.
    block.catch(() => {});
    return this.#loading = { layer, block };
  }
}
