import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { CodingOptions } from "../family.ts";
import { FeatureCache, type Pass } from "./feature_cache.ts";
import { isTiled, planWeights, type Span, type TilePlan } from "./tiling.ts";

/** A GPU is kept busy by so many latent pixels at once; a software adapter by those of any frame. */
const CHUNK_PIXELS = 8192;

/** Latent frames that go through the network together, and the clip's frames that they stand for. */
export interface Chunk {
  readonly latentStart: number;
  readonly latentCount: number;
  readonly start: number;
  readonly count: number;
}

/** The first latent frame by itself, for it stands for one frame only; then groups of those that stand for several. */
export function chunksOf(gpu: Gpu, latentFrames: number, tilePixels: number, temporalScale: number): Chunk[] {
  const most = gpu.kernels.plain ? 1 : Math.max(1, Math.floor(CHUNK_PIXELS / tilePixels));
  const chunks: Chunk[] = [{ latentStart: 0, latentCount: 1, start: 0, count: 1 }];
  for (let latentStart = 1; latentStart < latentFrames; latentStart += most) {
    const latentCount = Math.min(most, latentFrames - latentStart);
    chunks.push({
      latentStart,
      latentCount,
      start: 1 + (latentStart - 1) * temporalScale,
      count: latentCount * temporalScale,
    });
  }
  return chunks;
}

/** Where a chunk lies in the picture, and what its pixels count in the result; nothing where there is one tile only. */
export interface Place {
  readonly row: Span;
  readonly column: Span;
  readonly weights: Tensor | undefined;
}

/** The function that processes every chunk of every tile. */
export interface ChunkWork {
  readonly stage: "encode" | "decode";
  readonly plan: TilePlan;
  /** Pixels of the result along one edge of a latent pixel. */
  readonly scale: number;
  readonly chunks: readonly Chunk[];
  readonly pieceBytes: number;
  /** A signal ends the work before the next chunk. */
  readonly options: CodingOptions;
  /** Makes what the chunk's result goes into, if need be. */
  begin?(chunk: Chunk): void;
  /** Records the work. Tensors made in it are freed behind it. */
  record(pass: Pass, chunk: Chunk, place: Place): void;
  /** Waits for it. */
  finish(chunk: Chunk, lastTile: boolean): Promise<void>;
}

/**
 * Runs a clip through the network by tiles, and each by chunks in time; reports progress in latent frames of tiles.
 *
 * @throws the signal's reason, if it is aborted
 */
export async function eachChunk(gpu: Gpu, work: ChunkWork): Promise<void> {
  const { stage, plan, scale, chunks, pieceBytes, options: { onProgress, signal } } = work;
  const tiles = plan.rows.flatMap((row, i) => plan.columns.map((column, j) => ({ row, column, i, j })));
  const last = chunks.at(-1)!;
  const total = tiles.length * (last.latentStart + last.latentCount);
  let done = 0;
  onProgress?.({ stage, done, total });
  for (const [index, { row, column, i, j }] of tiles.entries()) {
    const cache = new FeatureCache(gpu);
    const shape = [row.length * scale, column.length * scale];
    const weights = isTiled(plan) ? gpu.upload(planWeights(plan, i, j, scale), shape) : undefined;
    try {
      for (const chunk of chunks) {
        signal?.throwIfAborted();
        const pass = { gpu, cache, first: chunk.latentStart === 0, pieceBytes };
        work.begin?.(chunk);
        gpu.scope(() => {
          work.record(pass, chunk, { row, column, weights });
          return cache.settle();
        });
        await work.finish(chunk, index === tiles.length - 1);
        // The first chunk has fewer frames than the others: its buffers would lie idle beside theirs.
        if (pass.first) gpu.trim();
        onProgress?.({ stage, done: done += chunk.latentCount, total });
      }
    } finally {
      cache.release();
      if (weights) gpu.release(weights);
    }
  }
  signal?.throwIfAborted();
}
