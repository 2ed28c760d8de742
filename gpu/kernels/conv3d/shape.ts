/**
 * 3D convolution of channels-last frames, with what surrounds it in a video autoencoder fused in: zero padding in
 * space, nearest-neighbour 2× upsampling of the input, a residual, and the interleaving of output channels into frames.
 *
 *     y[t, h, w, n] = residual[t, h, w, n] + bias[n]
 * + Σ_(dt, dy, dx, c) x[t·stride_t + dt, (h·stride + dy − pad) / up, (w·stride + dx − pad) / up, c] · weight[n, dt, dy,
 * dx, c]
 *
 * Time is never padded: the frames before come with the input. Input and weight are contiguous along c. Its kernels are
 * `plain.ts` for software adapters, and for GPUs `tiled.ts`, a product of matrices whose rows are pixels. Here is what
 * they share.
 *
 * @module
 */
import { read, write } from "../../kernel.ts";

/** All in vec4s along the channels. */
export const CONV3D_BUFFERS = {
  x: read("vec4f"),
  weight: read("vec4f"),
  bias: read("vec4f"),
  residual: read("vec4f"),
  y: write("vec4f"),
} as const;

export const CONV3D_PARAMS = {
  /** of the input */
  height_in: "u32",
  width_in: "u32",
  /** input channels / 4 */
  c4: "u32",
  /** of the output, before channels become frames */
  frames: "u32",
  height: "u32",
  width: "u32",
  channels: "u32",
  kernel_t: "u32",
  kernel_h: "u32",
  kernel_w: "u32",
  stride_t: "u32",
  pad: "i32",
  has_residual: "u32",
  /** channels / how many frames one frame's channels become */
  frame_channels: "u32",
} as const;

/** What a kernel is specialised for. */
export interface Conv3dShape {
  /** In height and width. */
  readonly stride: 1 | 2;
  /** Each pixel of the input counts as up × up of them. */
  readonly up: 1 | 2;
}
