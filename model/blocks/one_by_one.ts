import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import type { OnProgress, Stage } from "../progress.ts";
import type { StoredBlocks } from "./block_source.ts";

/** The blocks of an encoder, and what one of them does. */
export interface EncoderBlocks<Block> extends StoredBlocks<Block> {
  /** Records one block: the shape of what it takes. */
  run(block: Block, x: Tensor): Tensor;
}

/** Options of {@link runOneByOne}. */
export interface OneByOneOptions {
  /** What progress is told as, in blocks. */
  readonly stage: Stage;
  readonly onProgress?: OnProgress | undefined;
  /** Ends the work before the next block. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs the blocks of an encoder, of which one is on the GPU at a time: those of a large encoder need not fit.
 *
 * @param x what block 0 takes; taken over
 * @returns what the last block gives; the caller's
 * @throws {TilereelError} if weights are missing or do not fit, or memory runs out
 * @throws the signal's reason, if it is aborted
 */
export async function runOneByOne<Block>(
  gpu: Gpu,
  { weights, prefixes, load, run }: EncoderBlocks<Block>,
  x: Tensor,
  { stage, onProgress, signal }: OneByOneOptions,
): Promise<Tensor> {
  const total = prefixes.length;
  using owned = new TensorOwner(gpu);
  owned.adopt(x);
  onProgress?.({ stage, done: 0, total });
  for (const [layer, prefix] of prefixes.entries()) {
    signal?.throwIfAborted();
    const scope = weights.scope(prefix), block = await load(scope, layer);
    // The block before computed while this one was read. Waiting for it here keeps uploads from piling up.
    await gpu.finish();
    // One after the other, the kernels would take a second on a GPU that was not used before. Each block has the same.
    if (layer === 0 && gpu.compilesAhead) await gpu.compileAhead([() => run(block, x)], "none");
    const y = owned.adopt(run(block, x));
    gpu.submit();
    owned.free(x);
    x = y;
    scope[Symbol.dispose]();
    onProgress?.({ stage, done: layer + 1, total });
  }
  return owned.disown(x);
}
