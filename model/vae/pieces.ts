import type { Gpu } from "../../gpu/gpu.ts";
import { convInputFormat } from "../../gpu/ops/conv3d.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { PAST } from "./feature_cache.ts";

/** Bytes of a number that a convolution reads, and of one that it writes. */
export const inputBytes = (gpu: Gpu): number => convInputFormat(gpu) === "f16" ? 2 : 4;
export const OUTPUT_BYTES = 4;

/**
 * Frames that a stage takes at once, if the largest tensor of a frame has so many numbers, and none is to exceed `limit`
 * bytes.
 */
export function pieceFrames(gpu: Gpu, limit: number, numbers: number): number {
  const inRing = Math.floor(gpu.maxTensorBytes / (numbers * inputBytes(gpu))) - PAST;
  return Math.max(1, Math.min(inRing, Math.floor(Math.min(limit, gpu.maxTensorBytes) / (numbers * OUTPUT_BYTES))));
}

/**
 * Calls `work` on [frames, ...] in groups of at most `most` frames. Layers are causal and keep past frames, so the
 * grouping changes only the memory that they need. `x` is taken over; `work` takes over its group.
 */
export function eachPiece(gpu: Gpu, x: Tensor, most: number, work: (piece: Tensor) => void): void {
  const frames = x.dim(0);
  if (frames <= most) return work(x);
  for (let start = 0; start < frames; start += most) {
    const count = Math.min(most, frames - start);
    const piece = gpu.tensor([count, ...x.shape.slice(1)]);
    gpu.copy(x.slice(start, count), piece);
    work(piece);
  }
  gpu.release(x);
}

/** Joins groups of frames to one tensor. They are taken over. */
export function joinPieces(gpu: Gpu, pieces: readonly Tensor[]): Tensor {
  const [first] = pieces as [Tensor];
  if (pieces.length === 1) return first;
  const frames = pieces.reduce((sum, piece) => sum + piece.dim(0), 0);
  const x = gpu.tensor([frames, ...first.shape.slice(1)]);
  let at = 0;
  for (const piece of pieces) {
    gpu.copy(piece, x.slice(at, piece.dim(0)));
    at += piece.dim(0);
    gpu.release(piece);
  }
  return x;
}
