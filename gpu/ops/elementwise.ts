import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

const FILL = perElement({
  name: "fill_value",
  buffers: { y: write("f32") },
  params: { value: "f32" },
  body: "  y[i] = p.value;",
});

/** Overwrites an f32 tensor with one value. */
export function fill(gpu: Gpu, y: Tensor, value: number): void {
  runPerElement(gpu, FILL, { y }, { value });
}

/** Makes an f32 tensor of zeros. */
export function zeros(gpu: Gpu, shape: readonly number[]): Tensor {
  return runPerElement(gpu, FILL, { y: gpu.tensor(shape) }, { value: 0 });
}

const CLAMP = perElement({
  name: "clamp",
  buffers: { y: write("f32") },
  params: { low: "f32", high: "f32" },
  body: "  y[i] = clamp(y[i], p.low, p.high);",
});

const RELU = perElement({
  name: "relu",
  buffers: { y: write("f32") },
  params: {},
  // A number that is none stays so.
  body: "  y[i] = select(y[i], 0.0, y[i] < 0.0);",
});

/** Sets the negative numbers of an f32 tensor to 0, in place. */
export function reluInPlace(gpu: Gpu, y: Tensor): void {
  runPerElement(gpu, RELU, { y }, {});
}

const AFFINE = perElement({
  name: "affine",
  buffers: { y: write("f32") },
  params: { scale: "f32", shift: "f32" },
  body: "  y[i] = y[i] * p.scale + p.shift;",
});

/** y · scale + shift, f32, in place. */
export function affineInPlace(gpu: Gpu, y: Tensor, scale: number, shift: number): void {
  runPerElement(gpu, AFFINE, { y }, { scale, shift });
}

const SOFT_CLAMP = perElement({
  name: "soft_clamp",
  buffers: { x: read("f32"), y: write("f32") },
  params: { limit: "f32" },
  // Past 10, tanh is 1, and some GPUs give no number.
  body: "  y[i] = tanh(clamp(x[i] / p.limit, -10.0, 10.0)) * p.limit;",
});

/** limit · tanh(x / limit), elementwise, f32. */
export function softClamp(gpu: Gpu, x: Tensor, limit: number): Tensor {
  return runPerElement(gpu, SOFT_CLAMP, { x, y: gpu.tensor(x.shape) }, { limit });
}

/** Clamps an f32 tensor to low…high, in place. */
export function clampInPlace(gpu: Gpu, y: Tensor, low: number, high: number): void {
  runPerElement(gpu, CLAMP, { y }, { low, high });
}

const CHANNEL_AFFINE = perElement({
  name: "channel_affine",
  buffers: { x: read("f32"), scale: read("f32"), shift: read("f32"), y: write("f32") },
  params: u32s("channels", "inner"),
  body: `  let c = (i / p.inner) % p.channels;
  y[i] = x[i] * scale[c] + shift[c];`,
});

/**
 * y = x · scale + shift with one pair a channel.
 *
 * @param x [batch, channels, ...], f32
 * @param scale [channels], f32
 * @param shift [channels], f32
 */
export function channelAffine(gpu: Gpu, x: Tensor, scale: Tensor, shift: Tensor): Tensor {
  const batch = x.dim(0), channels = x.dim(1);
  if (scale.size !== channels || shift.size !== channels) throw new Error(`channelAffine: x [${x.shape}]`);
  const y = gpu.tensor(x.shape);
  return runPerElement(gpu, CHANNEL_AFFINE, { x, scale, shift, y }, { channels, inner: x.size / (batch * channels) });
}
