import type { Gpu } from "../gpu.ts";
import { conv3dPlain, PLAIN, type PlainWidth } from "../kernels/conv3d/plain.ts";
import { padding } from "../kernels/conv3d/shape.ts";
import { conv3dPositions } from "../kernels/conv3d/tiled.ts";
import {
  conv3dLaunch,
  conv3dVariantFor,
  conv3dVariants,
  type ConvVariant,
  type WeightUse,
} from "../kernels/conv3d/variants.ts";
import { conv3dWindow, fewerPixels, type WindowBy, windowWorkgroups } from "../kernels/conv3d/window.ts";
import { POSITIONS, SQUARE, WINOGRAD_OUTPUT, winogradInput } from "../kernels/conv3d/winograd.ts";
import { runPerElement } from "../kernels/per_element.ts";
import { type TiledBy, tileSize } from "../kernels/product/tiled.ts";
import type { Tensor } from "../tensor.ts";
import type { KernelFamily } from "../tuning/family.ts";
import { noise } from "../tuning/noise.ts";
import { ConvWeight } from "./conv3d_weight.ts";
import { packHalves } from "./pack_halves.ts";

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
  /**
   * Of a ring of frames: how many of x's are the input, from which one on. Behind x's end, they go on at its beginning.
   * Not with a replicated border. Default: all, from the first
   */
  readonly ring?: { readonly first: number; readonly frames: number };
  /** Computes the convolution by this variant, whatever its size and the device's fastest one. For trials and tests. */
  readonly variant?: ConvVariant;
}

/** The variants for large convolutions. The trial is the second-last stage of Wan's VAE. */
export const CONV3D: KernelFamily<ConvVariant> = {
  name: "conv3d",
  variants: conv3dVariants,
  trial(gpu) {
    const x = noise(gpu, [4, 240, 416, 96]), weight = noise(gpu, [96, 3, 3, 3, 96]), bias = noise(gpu, [96]);
    const input = gpu.f16 ? packHalves(gpu, x) : x;
    const weights = new Map([...conv3dVariants(gpu).values()].map((way) => [way, ConvWeight.of(gpu, weight, {}, way)]));
    return (variant) => gpu.scope(() => void conv3d(gpu, input, weights.get(variant) ?? weight, bias, { variant }));
  },
  sample(gpu, variant) {
    const x = noise(gpu, [4, 19, 23, 40]), weight = noise(gpu, [36, 3, 3, 3, 40]), bias = noise(gpu, [36]);
    return conv3d(gpu, x, weight, bias, { ...variant && { variant } });
  },
};

/** The format in which convolutions read their input. They convert f32 before, where it is f16. */
export const convInputFormat = (gpu: Gpu): "f32" | "f16" => gpu.f16 ? "f16" : "f32";

/** Converts weights to the layout that the device's convolutions with these options read. */
export function convWeight(gpu: Gpu, weight: Tensor, use: WeightUse = {}): ConvWeight {
  return ConvWeight.of(gpu, weight, use, gpu.kernels.pick(CONV3D));
}

/** Fewer workgroups than this leave a GPU idle. */
const ENOUGH_GROUPS = 128;
/** The bytes of a band in Winograd's domain: enough workgroups to keep a GPU busy. */
const BAND_BYTES = 2 ** 28;

/** A convolution whose operands and output exist. */
interface Task {
  readonly params: ReturnType<typeof paramsOf>;
  /** The frames of the input. */
  readonly framesIn: number;
  readonly x: Tensor;
  readonly weight: Tensor;
  readonly bias: Tensor;
  readonly residual: Tensor | undefined;
  readonly y: Tensor;
  readonly up: 1 | 2;
  readonly replicate: boolean;
}

/**
 * Zero padding is in space alone. A 3×3 kernel of stride 1 pads one pixel on every side; one of stride 2 pads one pixel
 * on the right and at the bottom. Time is not padded: the first `kernel frames − 1` frames of the input come before the
 * first frame of the output.
 *
 * A replicated border repeats the pixels at the edge, one on every side for a 3×3 kernel of either stride, and the first
 * frame `kernel frames − 1` times before itself.
 *
 * @param x [frames, height, width, in], f32, or f16 where that is {@link convInputFormat}; `in` a multiple of 4
 * @param weight [out, kernel frames, kernel height, kernel width, in], f32, which is converted each time; or converted;
 * `out` a multiple of 4, kernel width 1 or 3
 * @param bias [out], f32
 * @returns [frames', height', width', out], f32
 */
export function conv3d(
  gpu: Gpu,
  x: Tensor,
  weight: Tensor | ConvWeight,
  bias: Tensor,
  options: Conv3dOptions = {},
): Tensor {
  const { stride = 1, up = 1, upTime = 1, residual, interleave = 1 } = options,
    replicate = options.border === "replicate";
  const { use } = weight instanceof ConvWeight ? weight : { use: options };
  if ((use.stride ?? 1) !== stride || (use.up ?? 1) !== up || (use.upTime ?? 1) !== upTime) {
    throw new Error(`conv3d: weight [${weight.shape}] was converted for other options`);
  }
  const params = paramsOf(x, weight, options);
  const y = gpu.tensor([params.frames * interleave, params.height, params.width, params.frame_channels]);
  gpu.scope(() => {
    const converted = weight instanceof ConvWeight
      ? weight
      : ConvWeight.of(gpu, weight, options, options.variant ?? gpu.kernels.pick(CONV3D));
    const input = gpu.f16 && x.format.name === "f32" ? packHalves(gpu, x) : x;
    const framesIn = options.ring?.frames ?? x.dim(0);
    const task = { params, framesIn, x: input, weight: converted.tensor, bias, residual, y, up, replicate };
    const { layout } = converted;
    if (layout.by === "windows") return runWindows(gpu, task, layout);
    if (layout.by === "squares") return runSquares(gpu, task, layout);
    runRows(gpu, task, stride, options.variant);
  });
  return y;
}

/** Checks that operands fit, and returns the parameters of all kernels. */
function paramsOf(x: Tensor, weight: Tensor | ConvWeight, options: Conv3dOptions) {
  const { strideTime = 1, stride = 1, up = 1, residual, interleave = 1, upTime = 1 } = options;
  const replicate = options.border === "replicate";
  const [ring, heightIn, widthIn, cIn] = x.shape as [number, number, number, number];
  const { first: first_frame, frames: framesIn } = options.ring ?? { first: 0, frames: ring };
  const [channels, kernelT, kernelH, kernelW, kIn] = weight.shape as [number, number, number, number, number];
  const square = kernelH === kernelW && (kernelW === 1 || kernelW === 3);
  if (
    cIn !== kIn || cIn % 4 !== 0 || channels % (4 * interleave) !== 0 || !square ||
    (kernelW === 1 && up * stride !== 1) ||
    (upTime !== 1 && !replicate) ||
    framesIn > ring || (options.ring && replicate)
  ) {
    throw new Error(`conv3d: x [${x.shape}] does not fit weight [${weight.shape}]`);
  }
  const framesSeen = replicate ? (framesIn - 1) * upTime + kernelT : framesIn;
  const halved = (length: number) => replicate ? Math.ceil(length / 2) : Math.floor(length / 2);
  const enlarged = (length: number) => stride === 2 ? halved(length) : length * up;
  return {
    ...{ height_in: heightIn, width_in: widthIn, c4: cIn / 4 },
    frames: Math.floor((framesSeen - kernelT) / strideTime) + 1,
    ...{ height: enlarged(heightIn), width: enlarged(widthIn), channels },
    ...{ kernel_t: kernelT, kernel_h: kernelH, kernel_w: kernelW, stride_t: strideTime },
    ...{ pad: kernelW === 3 ? padding({ stride, replicate }) : 0, doubled: upTime - 1, ring, first_frame },
    ...{ has_residual: residual ? 1 : 0, frame_channels: channels / interleave },
  };
}

/** Computes outputs from weights in rows. */
function runRows(
  gpu: Gpu,
  { params, x, weight, bias, residual, y, up, replicate }: Task,
  stride: 1 | 2,
  given: ConvVariant | undefined,
): void {
  const { frames, height, width, channels } = params;
  const buffers = { x, weight, bias, residual: residual ?? gpu.placeholder, y };
  if (gpu.kernels.plain) {
    const blocks = Math.ceil(width / PLAIN.pixels) * height * frames;
    return gpu.run(conv3dPlain({ stride, up, replicate, kernelWidth: params.kernel_w as PlainWidth }), {
      buffers,
      params,
      workgroups: [Math.ceil(blocks / PLAIN.threads), Math.ceil(channels / PLAIN.channels), 1],
    });
  }
  const problem = { stride, up, replicate, pixels: frames * height * width, channelsIn: 4 * params.c4, channels };
  const isProduct = given?.by === "threads" || given?.by === "matrix units";
  const variant = isProduct ? given : conv3dVariantFor(gpu, problem, () => gpu.kernels.pick(CONV3D));
  const { kernel, workgroups } = conv3dLaunch(gpu, problem, variant);
  gpu.run(kernel, { buffers, params, workgroups });
}

/** Computes outputs by matrix units from windows of the input. */
function runWindows(gpu: Gpu, task: Task, { tile, units, up, upTime }: WindowBy): void {
  const { params, x, weight, bias, residual, y, replicate } = task, by = { tile, units, up, upTime };
  const groups = windowWorkgroups(by, params);
  const few = groups.reduce((a, b) => a * b) < ENOUGH_GROUPS, fitting = few ? fewerPixels(by) : by;
  gpu.run(conv3dWindow({ replicate, ...fitting }), {
    buffers: { x, weight, bias, residual: residual ?? gpu.placeholder, y },
    params,
    workgroups: windowWorkgroups(fitting, params),
  });
}

/** Computes outputs in Winograd's domain, in bands of rows. */
function runSquares(gpu: Gpu, task: Task, { tile, format }: TiledBy): void {
  const { params, framesIn, x, weight, bias, residual, y, up, replicate } = task;
  const { c4, channels, height, width, frames, has_residual } = params;
  if (params.frame_channels !== channels) throw new Error("conv3d: squares are not interleaved");
  const columns = Math.ceil(width / SQUARE), allRows = Math.ceil(height / SQUARE);
  const rowBytes = 2 * POSITIONS * columns * (framesIn * 4 * c4 + frames * channels);
  const bands = Math.min(allRows, Math.ceil(allRows * rowBytes / BAND_BYTES)), most = Math.ceil(allRows / bands);
  const [tileM, tileN] = tileSize(tile), multiply = conv3dPositions({ tile, format, replicate });
  for (let first = 0; first < allRows; first += most) {
    gpu.scope(() => {
      const rows = Math.min(most, allRows - first), squares = rows * columns, band = { first, rows, columns };
      const input = gpu.tensor([POSITIONS, framesIn, squares, 4 * c4], "f16");
      const sums = gpu.tensor([POSITIONS, frames, squares, channels], "f16");
      runPerElement(
        gpu,
        winogradInput({ up, replicate }),
        { x, y: input },
        { ...params, ...band },
        framesIn * squares * c4,
      );
      gpu.run(multiply, {
        buffers: { x: input, weight, y: sums },
        params: {
          ...params,
          ...{ height_in: 1, width_in: squares, height: 1, width: squares },
          ...{ kernel_h: 1, kernel_w: 1, pad: 0, ring: framesIn, first_frame: 0 },
          ...{ x_size: framesIn * squares * c4, weight_size: channels * params.kernel_t * c4 },
        },
        workgroups: [Math.ceil(channels / tileN), Math.ceil(frames * squares / tileM), POSITIONS],
      });
      const buffers = { x: sums, bias, residual: residual ?? gpu.placeholder, y };
      const about = { ...band, height, width, n4: channels / 4, has_residual };
      runPerElement(gpu, WINOGRAD_OUTPUT, buffers, about, frames * squares * channels / 4);
    });
  }
}
