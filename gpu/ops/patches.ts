import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import { memo } from "../kernels/memo.ts";
import { sizeOf, type Tensor } from "../tensor.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

/** Patch lengths along frames, height, width. */
export type PatchSize = readonly [number, number, number];

/** What a kernel does with the video's element `i`, given its patch and its position in the patch. */
const MOVES = {
  /** Channels first, like the weight of a convolution. */
  split: "y[token * p.channels * volume + c * volume + place] = x[i];",
  /** Channels last, like the rows of the output head. */
  join: "y[i] = x[token * p.channels * volume + place * p.channels + c];",
  /** The backward pass of `join`. */
  unjoin: "y[token * p.channels * volume + place * p.channels + c] = x[i];",
  /** The inverse of `split`, which is also its backward pass. */
  unsplit: "y[i] = x[token * p.channels * volume + c * volume + place];",
} as const;

const kernel = memo((direction: keyof typeof MOVES) =>
  perElement({
    name: `patches_${direction}`,
    buffers: { x: read("f32"), y: write("f32") },
    params: u32s("channels", "frames", "height", "width", "pt", "ph", "pw"),
    body: `  let w = i % p.width;
  let h = (i / p.width) % p.height;
  let t = (i / (p.width * p.height)) % p.frames;
  let c = (i / (p.width * p.height * p.frames)) % p.channels;
  let b = i / (p.width * p.height * p.frames * p.channels);
  let token = ((b * (p.frames / p.pt) + t / p.pt) * (p.height / p.ph) + h / p.ph) * (p.width / p.pw) + w / p.pw;
  let place = ((t % p.pt) * p.ph + h % p.ph) * p.pw + w % p.pw;
  let volume = p.pt * p.ph * p.pw;
  ${MOVES[direction]}`,
  })
);

/**
 * Cuts a video into patches, ready for the patch embedding as a linear layer.
 *
 * @param x [batch, channels, frames, height, width], f32; lengths are multiples of the patch
 * @returns [batch, tokens, channels·pt·ph·pw], f32
 */
export function patchify(gpu: Gpu, x: Tensor, patch: PatchSize): Tensor {
  const size = x.dim(1) * sizeOf(patch), batch = x.dim(0);
  const y = gpu.tensor([batch, x.size / batch / size, size]);
  return runPerElement(gpu, kernel("split"), { x, y }, sizes(x.shape, patch));
}

/**
 * Joins patches to a video, from the rows of the output head.
 *
 * @param x [batch, tokens, pt·ph·pw·channels], f32
 * @param shape [batch, channels, frames, height, width] of the result
 * @param channels "first" if the rows are [channels·pt·ph·pw], as {@link patchify} makes them
 */
export function unpatchify(
  gpu: Gpu,
  x: Tensor,
  shape: readonly number[],
  patch: PatchSize,
  channels: "first" | "last" = "last",
): Tensor {
  const [forward, backward] = channels === "first" ? ["unsplit", "split"] as const : ["join", "unjoin"] as const;
  const params = sizes(shape, patch), y = runPerElement(gpu, kernel(forward), { x, y: gpu.tensor(shape) }, params);
  gpu.tape?.record(y, [x], (dy) => [
    runPerElement(gpu, kernel(backward), { x: dy, y: gpu.tensor(x.shape) }, params),
  ]);
  return y;
}

/** The parameters of a kernel, for a video of a shape. */
function sizes(video: readonly number[], [pt, ph, pw]: PatchSize) {
  const [, channels, frames, height, width] = video as [number, number, number, number, number];
  return { channels, frames, height, width, pt, ph, pw };
}
