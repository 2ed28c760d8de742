import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import type { HeadShape, TokenLayout } from "../attention/layout.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import type {
  Conditioning,
  EmbeddedPass,
  ForwardPass,
  RunLayer,
  TransformerOptions,
  VideoTransformer,
} from "../family.ts";
import { checkDeltas } from "../weights/weight_options.ts";
import { Weights } from "../weights/weights.ts";
import { type BlockSource, ResidentBlocks, type StoredBlocks, StreamedBlocks } from "./block_source.ts";
import { RunningPass } from "./running_pass.ts";

/** A transformer's weights: those outside its blocks, and its blocks. */
export interface LoadedWeights<Outer, Block> {
  readonly outer: Outer;
  readonly blocks: BlockSource<Block>;
  /** Owns `outer`. */
  readonly weights: Weights;
}

/**
 * Uploads the weights: all of them, or only those outside the blocks if these are streamed.
 *
 * @param source is needed as long as the transformer if blocks are streamed or dropped
 * @param loadOuter uploads the weights outside the blocks
 * @throws {TilereelError} if a tensor is missing, its shape or format does not fit, or memory runs out
 */
export async function loadWeights<Outer, Block>(
  gpu: Gpu,
  source: TensorSource,
  stored: Omit<StoredBlocks<Block>, "weights">,
  loadOuter: (weights: Weights) => Promise<Outer>,
  { place = "resident", deferred = false, onProgress = () => {}, ...options }: TransformerOptions = {},
): Promise<LoadedWeights<Outer, Block>> {
  const { prefixes } = stored;
  checkDeltas(source, options.adjust);
  const ofBlocks = (name: string) => prefixes.some((prefix) => name.startsWith(prefix));
  const total = source.names().filter((name) => place === "resident" && !deferred || !ofBlocks(name))
    .reduce((sum, name) => sum + source.info(name).bytes, 0);
  const stage = "load transformer";
  let done = 0;
  onProgress({ stage, done, total });
  let loading = true;
  const onUpload = (bytes: number) => {
    // Blocks that were dropped are loaded again later.
    if (loading) onProgress({ stage, done: done += bytes, total });
  };
  using held = new DisposableStack();
  const weights = held.use(new Weights(gpu, source, { ...options, onUpload })), outer = await loadOuter(weights);
  weights.settle();
  const all = { ...stored, weights };
  const blocks = place === "resident" ? new ResidentBlocks(all) : new StreamedBlocks(gpu, all);
  if (!deferred) await blocks.ready();
  loading = false;
  onProgress({ stage, done: total, total });
  held.move();
  return { outer, blocks, weights };
}

/** A transformer whose layers are blocks. A family adds what comes before, in and after a block. */
export abstract class BlockTransformer<Outer, Block, Pass extends EmbeddedPass> implements VideoTransformer {
  protected readonly outer: Outer;

  constructor(protected readonly gpu: Gpu, private readonly loaded: LoadedWeights<Outer, Block>) {
    this.outer = loaded.outer;
  }

  abstract readonly shape: HeadShape;
  abstract layout(latents: readonly number[], conditioning: Conditioning): TokenLayout;
  abstract embed(pass: ForwardPass): Pass;
  abstract project(x: Tensor, pass: Pass): Tensor;
  /** The embedding of timesteps that VORTA's routers take: [timesteps, dim]. */
  protected abstract embedTime(timesteps: readonly number[]): Tensor;
  /**
   * What TeaCache compares between steps to decide whether the blocks are skipped: the input of block 0 after its
   * modulation, or what of it changes with the step. It is one of the pass's tensors or a new one. Default: none, and no
   * TeaCache.
   */
  protected modulatedInput(_pass: Pass, _first: Block): Tensor | undefined {
    return undefined;
  }
  /**
   * Records one block, from [batch, tokens, dim] to the same.
   *
   * @param release as in {@link runBlock}
   */
  protected abstract forwardBlock(block: Block, x: Tensor, pass: Pass, layer: number, release?: () => void): Tensor;

  async predict(passes: readonly ForwardPass[]): Promise<Tensor[]> {
    const { gpu, loaded: { blocks } } = this;
    await blocks.ready();
    using owned = new TensorOwner(gpu);
    // A streamed block serves all passes before it is replaced. With resident ones, only one pass is in memory at a time.
    const groups = blocks.resident ? passes.map((pass) => [pass]) : [passes];
    const velocities: Tensor[] = [];
    const labelled = <T>(pass: ForwardPass, work: () => T) => gpu.labelled(pass.name ?? "prompt", work);
    for (const group of groups) {
      const running = group.map((input) => new RunningPass(owned, input, labelled(input, () => this.embed(input))));
      let left = running, first: Promise<Block> | undefined;
      // Block 0 may be needed before it runs. It is valid until another one is asked for.
      const blockAt = (layer: number) => layer === 0 ? first ??= blocks.at(0) : blocks.at(layer);
      for (let layer = 0;; layer++) {
        // One pass may skip the blocks that remain, and another not.
        const skipping = new Set<unknown>();
        for (const one of left) {
          const skips = () => one.skipsFrom(layer, async () => this.modulatedInput(one.pass, await blockAt(0)));
          if (await labelled(one.input, skips)) skipping.add(one);
        }
        left = left.filter((one) => !skipping.has(one));
        if (left.length === 0 || layer === this.shape.layers) break;
        const block = await blockAt(layer);
        for (const one of left) {
          one.advance(
            labelled(one.input, () => this.#labelledBlock(block, one.x, one.pass, layer, () => one.release())),
          );
        }
        if (!blocks.resident) gpu.submit();
      }
      for (const one of running) {
        velocities.push(owned.adopt(labelled(one.input, () => this.project(one.x, one.pass))));
        one.end();
      }
    }
    return velocities.map((velocity) => owned.disown(velocity));
  }

  runBlock(layer: number, x: Tensor, pass: Pass, release?: () => void): Tensor {
    const { resident } = this.loaded.blocks;
    if (!resident) throw new Error("blocks that are streamed run in predict only");
    return this.#labelledBlock(resident[layer]!, x, pass, layer, release);
  }

  async layer(layer: number, next?: number): Promise<RunLayer> {
    const { blocks } = this.loaded;
    await blocks.ready();
    const block = await blocks.at(layer, next);
    return (x, pass) => this.#labelledBlock(block, x, pass as Pass, layer);
  }

  async timeEmbedding(timesteps: readonly number[]): Promise<Float32Array> {
    const { gpu } = this;
    using owned = new TensorOwner(gpu);
    return await gpu.read(owned.adopt(gpu.scope(() => this.embedTime(timesteps))));
  }

  dropBlocks(): void {
    this.loaded.blocks.drop();
  }

  [Symbol.dispose](): void {
    this.dropBlocks();
    this.loaded.weights[Symbol.dispose]();
  }

  #labelledBlock(block: Block, x: Tensor, pass: Pass, layer: number, release?: () => void): Tensor {
    return this.gpu.labelled(`block ${layer}`, () => this.forwardBlock(block, x, pass, layer, release));
  }
}
