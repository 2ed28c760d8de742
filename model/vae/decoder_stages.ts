import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { HalfMemory, HalfWork } from "./autoencoder.ts";
import type { Pass } from "./feature_cache.ts";
import { type Layer, runLayers } from "./layers.ts";
import { eachPiece, inputBytes, OUTPUT_BYTES, pieceFrames } from "./pieces.ts";

/** The sizes of one resolution of a decoder. The i-th, from 0 on, has 4^i pixels for each latent pixel. */
export interface DecoderStage {
  /** Channels of the largest tensor that one frame makes; of a larger picture, or of several frames, so many times more. */
  readonly channels: number;
  /** Frames of the past that its convolutions see, and the channels of all of their inputs together. */
  readonly past: { readonly frames: number; readonly channels: number };
  /** What it gives to the next: by how much frames are multiplied, and channels, at twice the edge. None behind the last */
  readonly up: { readonly time: number; readonly channels: number } | undefined;
}

/**
 * How many of a stage's largest tensors lie in memory at once: a residual block's input, its hidden frames, what comes
 * out, and buffers kept for reuse.
 */
const LIVE_TENSORS = 4;

/** What decoding through such stages holds. */
export function decodingMemory(
  gpu: Gpu,
  stages: readonly DecoderStage[],
  { latentPixels, frames, pieceBytes }: HalfWork,
): HalfMemory {
  let largest = 0, held = 0, live = 0, given = frames;
  for (const [i, { channels, past, up }] of stages.entries()) {
    const pixels = latentPixels * 4 ** i, numbers = pixels * channels;
    const most = Math.min(given, pieceFrames(gpu, pieceBytes, numbers)), ring = (past.frames + most) * inputBytes(gpu);
    largest = Math.max(largest, most * numbers * OUTPUT_BYTES, ring * numbers);
    live = Math.max(live, LIVE_TENSORS * most * numbers * OUTPUT_BYTES);
    held += ring * pixels * past.channels;
    given = most * (up?.time ?? 1);
    // What comes out waits while the next stage works on a part of it.
    if (up) held += 4 * pixels * up.channels * given * OUTPUT_BYTES;
  }
  return { largest, held: held + live };
}

/**
 * Runs frames through the stages, in pieces that leave no tensor larger than {@link Pass.pieceBytes}.
 *
 * @param x [frames, height, width, channels] of the first stage; taken over
 * @param finish given what the last stage makes of each piece; takes it over
 */
export function runStages(
  pass: Pass,
  stages: readonly (DecoderStage & { readonly layers: readonly Layer[] })[],
  latentPixels: number,
  x: Tensor,
  finish: (pass: Pass, frames: Tensor) => void,
  index = 0,
): void {
  const { gpu, pieceBytes } = pass, stage = stages[index];
  if (!stage) return finish(pass, x);
  const most = Math.min(pass.most, pieceFrames(gpu, pieceBytes, latentPixels * 4 ** index * stage.channels));
  eachPiece(gpu, x, most, (piece) => {
    const y = runLayers({ ...pass, most }, stage.layers, piece);
    runStages({ ...pass, most: most * (stage.up?.time ?? 1) }, stages, latentPixels, y, finish, index + 1);
  });
}
