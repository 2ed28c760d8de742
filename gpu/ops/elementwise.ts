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
