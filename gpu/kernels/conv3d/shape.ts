/**
 * 3D convolution of channels-last frames. It includes the operations around a convolution in a video autoencoder: zero
 * padding in space, nearest-neighbour 2× upsampling of the input, a residual, and interleaving of output channels into
 * frames.
 *
 *     y[t, h, w, n] = residual[t, h, w, n] + bias[n]
 *         + Σ_(dt, dy, dx, c) x[t·stride_t + dt, (h·stride + dy − pad) / up, (w·stride + dx − pad) / up, c]
 *                             · weight[n, dt, dy, dx, c]
 *
 * Time is never padded: the caller puts the earlier frames in front of the input. Input and weight are contiguous along
 * c. The kernels are `plain.ts` for software adapters and `tiled.ts` for GPUs, a matrix product whose rows are pixels.
 * This file has what they share.
 *
 * @module
 */
import { read, u32s, write } from "../../kernel.ts";

/** All sizes are in vec4s along the channels. */
export const CONV3D_BUFFERS = {
  ...{ x: read("vec4f"), weight: read("vec4f"), bias: read("vec4f"), residual: read("vec4f") },
  y: write("vec4f"),
} as const;

export const CONV3D_PARAMS = {
  /** of the input */
  ...u32s("height_in", "width_in"),
  /** input channels / 4 */
  c4: "u32",
  /** of the output, before channels become frames */
  ...u32s("frames", "height", "width", "channels"),
  ...u32s("kernel_t", "kernel_h", "kernel_w", "stride_t"),
  pad: "i32",
  has_residual: "u32",
  /** channels / the number of frames into which the channels are split */
  frame_channels: "u32",
} as const;

/** The properties that a kernel is specialized for. */
export interface Conv3dShape {
  /** The stride in height and width. */
  readonly stride: 1 | 2;
  /** The factor by which the input is enlarged, in height and width. */
  readonly up: 1 | 2;
}
