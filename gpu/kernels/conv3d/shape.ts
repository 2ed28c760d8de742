/**
 * 3D convolution of channels-last frames. It includes the operations around a convolution in a video autoencoder:
 * padding, nearest-neighbour 2× upsampling of the input, a residual, and interleaving of output channels into frames.
 *
 *     y[t, h, w, n] = residual[t, h, w, n] + bias[n]
 *         + Σ_(dt, dy, dx, c) x[t·stride_t + dt, (h·stride + dy − pad) / up, (w·stride + dx − pad) / up, c]
 *                             · weight[n, dt, dy, dx, c]
 *
 * With zero padding time is not padded: the input begins with the earlier frames. It may lie in a ring of frames. With a
 * replicated border, positions outside are moved to the nearest one inside, in time as well, where all padding comes
 * before the first frame. Input and weight are contiguous along c. The kernels are `plain.ts` for software adapters;
 * `tiled.ts` for GPUs, a matrix product whose rows are pixels; `window.ts` for matrix units and `winograd.ts` for
 * ordinary arithmetic, both for 3×3 kernels of stride 1. This file has what they share.
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
  /** 1 if each frame but the first is doubled. Of a replicated border only. */
  doubled: "u32",
  /** The ring's frames, and which of them comes first. With zero padding only. */
  ...u32s("ring", "first_frame"),
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
  /** Whether the border is replicated, in space and before the first frame. Otherwise space is padded with zeros. */
  readonly replicate: boolean;
}

/** The pixels of padding before the first one of a 3×3 kernel. */
export const padding = ({ stride, replicate }: Pick<Conv3dShape, "stride" | "replicate">) =>
  stride === 1 || replicate ? 1 : 0;

/** The frame of the input at a position in time, which counts frames of padding. */
export const inputFrame = (replicate: boolean, at: string) =>
  replicate
    ? `((max(${at}, p.kernel_t - 1u) + 1u - p.kernel_t + p.doubled) >> p.doubled)`
    : `((${at} + p.first_frame) % p.ring)`;

/** What a kernel's name says of the shape. */
export const shapeName = ({ stride, up, replicate }: Conv3dShape) => `${stride}_${up}${replicate ? "_replicate" : ""}`;
