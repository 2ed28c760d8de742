import type { Gpu } from "../gpu.ts";
import { conv3dPlain, PLAIN, type PlainWidth } from "../kernels/conv3d/plain.ts";
import { padding } from "../kernels/conv3d/shape.ts";
import { conv3dLaunch, conv3dVariantFor, conv3dVariants } from "../kernels/conv3d/variants.ts";
import type { ProductVariant } from "../kernels/product/variants.ts";
import type { Tensor } from "../tensor.ts";
import type { KernelFamily } from "../tuning/family.ts";
import { noise } from "../tuning/noise.ts";
import { withOperands } from "./pack_halves.ts";

/** Options of a convolution: its strides, and the operations that are fused with it. */
export interface Conv3dOptions {
  /** The stride along frames. Default: 1. */
  readonly strideTime?: number;
  /** The stride along height and width. Default: 1. */
  readonly stride?: 1 | 2;
  /** The factor by which the input is first enlarged in height and width, by nearest neighbours. Default: 1. */
  readonly up?: 1 | 2;
  /** What surrounds the input: see {@link conv3d}. Default: "zero" */
  readonly border?: "zero" | "replicate";
  /** The factor by which all frames but the first are repeated before, with a replicated border. Default: 1. */
  readonly upTime?: 1 | 2;
  /** [frames, height, width, out] of the result: is added to it. */
  readonly residual?: Tensor;
  /** The number of consecutive frames that the output channels are split into. Default: 1. */
  readonly interleave?: number;
  /** Computes the convolution by this variant, whatever its size and the device's fastest one. For trials and tests. */
  readonly variant?: ProductVariant;
}

/** The variants for large convolutions. The trial is the second-last stage of Wan's VAE. */
export const CONV3D: KernelFamily<ProductVariant> = {
  name: "conv3d",
  variants: conv3dVariants,
  trial(gpu) {
    const x = noise(gpu, [4, 240, 416, 96]), weight = noise(gpu, [96, 3, 3, 3, 96]), bias = noise(gpu, [96]);
    return (variant) => gpu.scope(() => void conv3d(gpu, x, weight, bias, { variant }));
  },
  sample(gpu, variant) {
    const x = noise(gpu, [4, 19, 23, 40]), weight = noise(gpu, [36, 3, 3, 3, 40]), bias = noise(gpu, [36]);
    return conv3d(gpu, x, weight, bias, { ...variant && { variant } });
  },
};

/**
 * Zero padding is in space alone. A 3×3 kernel of stride 1 pads one pixel on every side; one of stride 2 pads one pixel
 * on the right and at the bottom. Time is not padded: the first `kernel frames − 1` frames of the input come before the
 * first frame of the output.
 *
 * A replicated border repeats the pixels at the edge, one on every side for a 3×3 kernel of either stride, and the first
 * frame `kernel frames − 1` times before itself.
 *
 * @param x [frames, height, width, in], f32; `in` a multiple of 4
 * @param weight [out, kernel frames, kernel height, kernel width, in], f32; `out` a multiple of 4, kernel width 1 or 3
 * @param bias [out], f32
 * @returns [frames', height', width', out], f32
 */
export function conv3d(gpu: Gpu, x: Tensor, weight: Tensor, bias: Tensor, options: Conv3dOptions = {}): Tensor {
  const { strideTime = 1, stride = 1, up = 1, residual, interleave = 1, upTime = 1 } = options;
  const replicate = options.border === "replicate";
  const [framesIn, heightIn, widthIn, cIn] = x.shape as [number, number, number, number];
  const [channels, kernelT, kernelH, kernelW, kIn] = weight.shape as [number, number, number, number, number];
  const square = kernelH === kernelW && (kernelW === 1 || kernelW === 3);
  if (
    cIn !== kIn || cIn % 4 !== 0 || channels % (4 * interleave) !== 0 || !square ||
    (kernelW === 1 && up * stride !== 1) ||
    (upTime !== 1 && !replicate)
  ) {
    throw new Error(`conv3d: x [${x.shape}] does not fit weight [${weight.shape}]`);
  }
  const framesSeen = replicate ? (framesIn - 1) * upTime + kernelT : framesIn;
  const frames = Math.floor((framesSeen - kernelT) / strideTime) + 1;
  const halved = (length: number) => replicate ? Math.ceil(length / 2) : Math.floor(length / 2);
  const height = stride === 2 ? halved(heightIn) : heightIn * up;
  const width = stride === 2 ? halved(widthIn) : widthIn * up;
  const y = gpu.tensor([frames * interleave, height, width, channels / interleave]);
  const params = {
    ...{ height_in: heightIn, width_in: widthIn, c4: cIn / 4, frames, height, width, channels },
    ...{ kernel_t: kernelT, kernel_h: kernelH, kernel_w: kernelW, stride_t: strideTime },
    ...{ pad: kernelW === 3 ? padding({ stride, replicate }) : 0, doubled: upTime - 1 },
    ...{ has_residual: residual ? 1 : 0, frame_channels: channels / interleave },
  };
  const buffers = { x, weight, bias, residual: residual ?? gpu.placeholder, y };
  if (gpu.kernels.plain) {
    const blocks = Math.ceil(width / PLAIN.pixels) * height * frames;
    gpu.run(conv3dPlain({ stride, up, replicate, kernelWidth: kernelW as PlainWidth }), {
      buffers,
      params,
      workgroups: [Math.ceil(blocks / PLAIN.threads), Math.ceil(channels / PLAIN.channels), 1],
    });
  } else {
    const problem = { stride, up, replicate, pixels: frames * height * width, channelsIn: cIn, channels };
    const variant = options.variant ?? conv3dVariantFor(gpu, problem, () => gpu.kernels.pick(CONV3D));
    const { kernel, workgroups } = conv3dLaunch(gpu, problem, variant);
    withOperands(gpu, variant, [x, weight], ([x, weight]) => {
      gpu.run(kernel, { buffers: { ...buffers, x: x!, weight: weight! }, params, workgroups });
    });
  }
  return y;
}
