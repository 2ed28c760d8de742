/**
 * 3D convolution of channels-last frames.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { conv3dPlain, conv3dTiled, PLAIN, type PlainWidth } from "../kernels/conv3d.ts";
import type { Tensor } from "../tensor.ts";

/** How a convolution walks its input, and what is fused around it. */
export interface Conv3dOptions {
  /** Output frames are this many input frames apart. 1 where absent. */
  readonly strideTime?: number;
  /** Output pixels are this many input pixels apart, in height and width. 1 where absent. */
  readonly stride?: 1 | 2;
  /** The input is taken as its nearest-neighbour enlargement by this factor in height and width. 1 where absent. */
  readonly up?: 1 | 2;
  /** [frames, height, width, out] of the result: added to it. */
  readonly residual?: Tensor;
  /** The output channels are those of so many frames that follow each other: they become frames. 1 where absent. */
  readonly interleave?: number;
}

/**
 * Zero padding in space is that of Wan's layers: a 3×3 kernel of stride 1 sees one pixel around the frame, one of stride
 * 2 one pixel to the right and below. Time is not padded: `kernel frames − 1` frames of the input come before the first
 * of the output.
 *
 * @param x [frames, height, width, in], f32; `in` a multiple of 4
 * @param weight [out, kernel frames, kernel height, kernel width, in], f32; `out` a multiple of 4, kernel width 1 or 3
 * @param bias [out], f32
 * @returns [frames', height', width', out], f32
 */
export function conv3d(gpu: Gpu, x: Tensor, weight: Tensor, bias: Tensor, options: Conv3dOptions = {}): Tensor {
  const { strideTime = 1, stride = 1, up = 1, residual, interleave = 1 } = options;
  const [framesIn, heightIn, widthIn, cIn] = x.shape as [number, number, number, number];
  const [channels, kernelT, kernelH, kernelW, kIn] = weight.shape as [number, number, number, number, number];
  const square = kernelH === kernelW && (kernelW === 1 || kernelW === 3);
  if (
    cIn !== kIn || cIn % 4 !== 0 || channels % (4 * interleave) !== 0 || !square || (kernelW === 1 && up * stride !== 1)
  ) {
    throw new Error(`conv3d: x [${x.shape}] does not fit weight [${weight.shape}]`);
  }
  const frames = Math.floor((framesIn - kernelT) / strideTime) + 1;
  const height = stride === 2 ? Math.floor(heightIn / 2) : heightIn * up;
  const width = stride === 2 ? Math.floor(widthIn / 2) : widthIn * up;
  const y = gpu.tensor([frames * interleave, height, width, channels / interleave]);
  const params = {
    height_in: heightIn,
    width_in: widthIn,
    c4: cIn / 4,
    frames,
    height,
    width,
    channels,
    kernel_t: kernelT,
    kernel_h: kernelH,
    kernel_w: kernelW,
    stride_t: strideTime,
    pad: kernelW === 3 && stride === 1 ? 1 : 0,
    has_residual: residual ? 1 : 0,
    frame_channels: channels / interleave,
  };
  const buffers = { x, weight, bias, residual: residual ?? gpu.placeholder, y };
  if (gpu.software) {
    const blocks = Math.ceil(width / PLAIN.pixels) * height * frames;
    gpu.run(conv3dPlain({ stride, up, kernelWidth: kernelW as PlainWidth }), {
      buffers,
      params,
      workgroups: [Math.ceil(blocks / PLAIN.threads), Math.ceil(channels / PLAIN.channels), 1],
    });
  } else {
    const pixels = frames * height * width;
    // 96 channels are a stage of Wan's own VAE: its widths are multiples of that.
    const cols = channels <= 16 ? 1 : channels <= 32 ? 2 : channels % 96 === 0 ? 6 : 4;
    // A big tile reads less, but too few of them leave the GPU idle.
    const rows = Math.ceil(pixels / 128) * Math.ceil(channels / (16 * cols)) >= 128 ? 8 : 4;
    gpu.run(conv3dTiled({ stride, up, rows, cols, f16: gpu.f16 }), {
      buffers,
      params,
      workgroups: [Math.ceil(pixels / (16 * rows)), Math.ceil(channels / (16 * cols)), 1],
    });
  }
  return y;
}
