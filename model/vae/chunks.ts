import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { CodingOptions } from "../family.ts";
import { type Before, FeatureCache, type Pass } from "./feature_cache.ts";
import { finer, isTiled, planWeights, type Span, type TilePlan, tileSpans, timeWeights } from "./tiling.ts";

/** A GPU is kept busy by so many latent pixels at once; a software adapter by those of any frame. */
const CHUNK_PIXELS = 8192;

/** Latent frames that go through the network together, and the clip's frames that they stand for. */
export interface Chunk {
  readonly latentStart: number;
  readonly latentCount: number;
  readonly start: number;
  readonly count: number;
  /** Present where chunks overlap in time. */
  readonly tile?: TimeTile;
}

/** How a chunk that is a tile in time goes into the clip. */
export interface TimeTile {
  /** The frames of the result that are left out at its start: of a latent frame as of the clip. */
  readonly skip: number;
  /** Frames of the clip until the next tile's begin, from this one's first that is not left out. */
  readonly stride: number;
  /** What each frame that is not left out counts, where a latent frame stands for `scale` frames of the result. */
  weights(scale: number): Float32Array;
}

/** The most latent frames of a chunk of {@linkcode chunksOf}. */
export function mostChunkFrames(gpu: Gpu, latentFrames: number, tilePixels: number): number {
  const most = gpu.kernels.plain ? 1 : Math.floor(CHUNK_PIXELS / tilePixels);
  return Math.max(1, Math.min(latentFrames - 1, most));
}

/** The first latent frame by itself, for it stands for one frame only; then groups of those that stand for several. */
export function chunksOf(gpu: Gpu, latentFrames: number, tilePixels: number, temporalScale: number): Chunk[] {
  const most = mostChunkFrames(gpu, latentFrames, tilePixels);
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

/**
 * Tiles in time, as diffusers cuts them: each begins with one latent frame more, which stands for one frame of the clip
 * as the clip's first does, and is left out of all results but the first.
 *
 * @param size latent frames of a tile
 * @param stride from one tile to the next
 */
export function timeTiles(latentFrames: number, size: number, stride: number, temporalScale: number): Chunk[] {
  const rest = latentFrames - 1;
  const spans = latentFrames <= size ? [{ start: 0, length: rest }] : tileSpans(rest, size, stride);
  return spans.map(({ start, length }, i) => {
    const skip = i === 0 ? 0 : 1;
    return {
      ...{ latentStart: start, latentCount: length + 1 },
      ...{ start: start * temporalScale, count: length * temporalScale + 1 },
      tile: {
        skip,
        stride: (i === spans.length - 1 ? length : stride) * temporalScale + 1 - skip,
        weights(scale) {
          const weights = timeWeights(finer(spans, scale), i, stride * scale, (size - stride) * scale);
          return i === 0 ? Float32Array.of(1, ...weights) : weights;
        },
      },
    };
  });
}

/** Where a chunk lies in the picture, and what its pixels count in the result; nothing where there is one tile only. */
export interface Place {
  readonly row: Span;
  readonly column: Span;
  readonly weights: Tensor | undefined;
}

/** Whether results overlap, in space or in time: they are multiplied by weights and added up. */
export function isBlended(plan: TilePlan, chunks: readonly Chunk[]): boolean {
  return isTiled(plan) || chunks.length > 1 && chunks[0]!.tile !== undefined;
}

/** How chunks are recorded. */
export interface ChunkRecording {
  readonly plan: TilePlan;
  /** Pixels of the result along one edge of a latent pixel, and its frames of a latent frame. */
  readonly scale: number;
  readonly timeScale: number;
  /** What comes before the clip; see {@link Before}. */
  readonly before: Before | undefined;
  readonly chunks: readonly Chunk[];
  readonly pieceBytes: number;
  /** Makes what the chunk's result goes into, if need be. */
  begin?(chunk: Chunk): void;
  /** Records the work. Tensors made in it are freed behind it. */
  record(pass: Pass, chunk: Chunk, place: Place): void;
}

/** The function that processes every chunk of every tile. */
export interface ChunkWork extends ChunkRecording {
  readonly stage: "encode" | "decode";
  /** A signal ends the work before the next chunk. */
  readonly options: CodingOptions;
  /** Records what follows, and waits for it. The next chunk may be recorded meanwhile. */
  finish(chunk: Chunk, lastTile: boolean): Promise<void>;
}

/** What goes through the network with one past. */
interface TilePass {
  readonly row: Span;
  readonly column: Span;
  /** The tile's row and column. */
  readonly i: number;
  readonly j: number;
  readonly chunks: readonly Chunk[];
}

/**
 * Runs a clip through the network by tiles, and each by chunks in time; reports progress in latent frames of tiles. A
 * chunk is recorded while the device works on the one before, so that the device never waits.
 *
 * @throws the signal's reason, if it is aborted
 */
export async function eachChunk(gpu: Gpu, work: ChunkWork): Promise<void> {
  const { stage, plan, options: { onProgress, signal } } = work, passes = passesOf(work);
  const total = passes.reduce((sum, { chunks }) => sum + latentFramesOf(chunks), 0);
  let done = 0;
  // The last chunk's work, and that of the one before with its report.
  let finished = Promise.resolve(), before = finished;
  const run = async (tile: TilePass, next: TilePass | undefined) => {
    const { i, j, chunks } = tile, cache = new FeatureCache(gpu, work.before), weights = weightsOf(gpu, work, tile);
    try {
      for (const chunk of chunks) {
        signal?.throwIfAborted();
        recordChunk(gpu, work, cache, chunk, { ...tile, weights });
        finished = work.finish(chunk, i === plan.rows.length - 1 && j === plan.columns.length - 1);
        const reported = finished.then(() => {
          signal?.throwIfAborted();
          onProgress?.({ stage, done: done += chunk.latentCount, total });
        });
        reported.catch(() => {/* thrown when it is waited for */});
        await before;
        before = reported;
        // Where sizes change, buffers would lie idle beside the next ones. A clip's first chunk has fewer frames.
        if (chunk.tile ? next && !isAlike(tile, next) : chunk.latentStart === 0) gpu.trim();
      }
    } finally {
      cache.release();
      if (weights) gpu.release(weights);
    }
  };
  onProgress?.({ stage, done, total });
  try {
    for (const [index, pass] of passes.entries()) await run(pass, passes[index + 1]);
    await before;
  } catch (error) {
    await finished.catch(() => {/* later than the error */});
    throw error;
  }
  signal?.throwIfAborted();
}

/** Records a chunk of each kind: all kernels that {@link eachChunk} runs with such work. */
export function recordKinds(gpu: Gpu, work: ChunkRecording): void {
  const passes = passesOf(work);
  for (const tile of new Set([passes[0]!, passes.at(-1)!])) {
    const { chunks } = tile, cache = new FeatureCache(gpu, work.before), weights = weightsOf(gpu, work, tile);
    for (const chunk of new Set([chunks[0]!, chunks[1] ?? chunks[0]!, chunks.at(-1)!])) {
      recordChunk(gpu, work, cache, chunk, { ...tile, weights });
    }
    cache.release();
    if (weights) gpu.release(weights);
  }
}

function recordChunk(gpu: Gpu, work: ChunkRecording, cache: FeatureCache, chunk: Chunk, place: Place): void {
  const most = Math.max(...work.chunks.map(({ latentCount }) => latentCount));
  const pass = { gpu, cache, first: chunk.latentStart === 0, pieceBytes: work.pieceBytes, most };
  work.begin?.(chunk);
  gpu.scope(() => {
    work.record(pass, chunk, place);
    return cache.settle();
  });
}

/** All passes, in order. Chunks of a tile continue each other, except tiles in time. */
function passesOf({ plan, chunks: all }: ChunkRecording): TilePass[] {
  const tiles = plan.rows.flatMap((row, i) => plan.columns.map((column, j) => ({ row, column, i, j })));
  return all[0]!.tile
    ? all.flatMap((chunk) => tiles.map((tile) => ({ ...tile, chunks: [chunk] })))
    : tiles.map((tile) => ({ ...tile, chunks: all }));
}

/** What each pixel of a pass counts in the result; the caller's. */
function weightsOf(
  gpu: Gpu,
  { plan, scale, timeScale, chunks: all }: ChunkRecording,
  { row, column, i, j, chunks }: TilePass,
): Tensor | undefined {
  const shape = [row.length * scale, column.length * scale];
  const inTime = all.length > 1 ? chunks[0]!.tile?.weights(timeScale) : undefined;
  const inSpace = isTiled(plan) || inTime ? planWeights(plan, i, j, scale) : undefined;
  if (!inSpace) return undefined;
  return inTime ? gpu.upload(outer(inTime, inSpace), [inTime.length, ...shape]) : gpu.upload(inSpace, shape);
}

function latentFramesOf(chunks: readonly Chunk[]): number {
  return chunks.reduce((sum, { latentCount }) => sum + latentCount, 0);
}

/** Whether two tiles in space and time have the same size. */
function isAlike(a: TilePass, b: TilePass): boolean {
  return a.row.length === b.row.length && a.column.length === b.column.length &&
    a.chunks[0]!.latentCount === b.chunks[0]!.latentCount;
}

/** a[i] · b[j] */
function outer(a: Float32Array, b: Float32Array): Float32Array {
  const product = new Float32Array(a.length * b.length);
  let at = 0;
  for (const factor of a) for (let i = 0; i < b.length; i++) product[at++] = factor * b[i]!;
  return product;
}
