/**
 * Converts between two layouts of a clip: [channels, frames, height, width], which models take and return, and
 * channels-last [frames, height, width, channels], which convolutions use.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

/** A part of a clip: `frames` from `frame` on, and of each the window `height` × `width` at `top`, `left`. */
export interface Window {
  readonly frame: number;
  readonly frames: number;
  readonly top: number;
  readonly left: number;
  readonly height: number;
  readonly width: number;
}

const PARAMS = {
  ...u32s("channels", "frames", "height", "width", "clip_frames", "clip_height", "clip_width"),
  ...u32s("frame", "top", "left"),
};

/** The position of a window in a clip [channels, frames, height, width], as both kernels take it. */
function windowParams(clip: Tensor, window: Window) {
  const [channels, clip_frames, clip_height, clip_width] = clip.shape as [number, number, number, number];
  return { ...window, channels, clip_frames, clip_height, clip_width };
}

const CUT = perElement({
  name: "cut_window",
  buffers: { x: read("f32"), y: write("vec4f") },
  params: PARAMS,
  body: `  let c4 = (p.channels + 3u) / 4u;
  let c = i % c4 * 4u;
  let w = (i / c4) % p.width;
  let h = (i / (c4 * p.width)) % p.height;
  let t = i / (c4 * p.width * p.height);
  let plane = p.clip_frames * p.clip_height * p.clip_width;
  let at = ((p.frame + t) * p.clip_height + p.top + h) * p.clip_width + p.left + w;
  var v = vec4f();
  for (var j = 0u; j < 4u; j++) {
    if (c + j < p.channels) { v[j] = x[(c + j) * plane + at]; }
  }
  y[i] = v;`,
});

/**
 * Copies a window of a clip to channels-last layout.
 *
 * @param x [channels, frames, height, width], f32
 * @returns [frames, height, width, channels], f32, with zeros up to a multiple of 4 channels
 */
export function cutWindow(gpu: Gpu, x: Tensor, window: Window): Tensor {
  const { frames, height, width } = window;
  const y = gpu.tensor([frames, height, width, Math.ceil(x.dim(0) / 4) * 4]);
  return runPerElement(gpu, CUT, { x, y }, windowParams(x, window));
}

const PASTE = perElement({
  name: "paste_window",
  buffers: { x: read("f32"), weights: read("f32"), y: write("f32") },
  params: { ...PARAMS, ...u32s("stride", "skip", "blend", "weights_frame"), limit: "f32" },
  body: `  let w = i % p.width;
  let h = (i / p.width) % p.height;
  let t = (i / (p.width * p.height)) % p.frames;
  let c = i / (p.width * p.height * p.frames);
  let given = x[(((t + p.skip) * p.height + h) * p.width + w) * p.stride + c];
  // NaN must stay NaN, so that it is noticed.
  let finite = (bitcast<u32>(given) & 0x7f800000u) != 0x7f800000u;
  let v = select(given, clamp(given, -p.limit, p.limit), finite);
  let at = ((c * p.clip_frames + p.frame + t) * p.clip_height + p.top + h) * p.clip_width + p.left + w;
  if (p.blend == 0u) { y[at] = v; } else { y[at] += v * weights[t * p.weights_frame + h * p.width + w]; }`,
});

/**
 * Copies channels-last frames into a clip; the inverse of {@link cutWindow}.
 *
 * @param x [frames, height, width, channels or more], f32
 * @param y [channels, frames, height, width], f32
 * @param options.weights [height, width] or [frames, height, width]: the window is multiplied by them and added to the
 * clip, not copied
 * @param options.skip so many of x's first frames are left out
 * @param options.limit clamps numbers to −limit…limit first, but not infinities and NaNs
 */
export function pasteWindow(
  gpu: Gpu,
  x: Tensor,
  y: Tensor,
  { frame, top, left }: Pick<Window, "frame" | "top" | "left">,
  { weights, skip = 0, limit = 3.4e38 }: {
    readonly weights?: Tensor;
    readonly skip?: number;
    readonly limit?: number;
  } = {},
): void {
  const [given, height, width, stride] = x.shape as [number, number, number, number];
  const frames = given - skip;
  const count = y.dim(0) * frames * height * width;
  const window = windowParams(y, { frame, frames, top, left, height, width });
  const weights_frame = weights?.shape.length === 3 ? height * width : 0;
  const params = { ...window, stride, skip, blend: weights ? 1 : 0, weights_frame, limit };
  runPerElement(gpu, PASTE, { x, weights: weights ?? gpu.placeholder, y }, params, count);
}
