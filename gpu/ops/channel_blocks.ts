/**
 * Moves numbers between channels and places of channels-last frames: a block of frames, rows and columns is a number of
 * channels, and a square of pixels, too. Tensors may have more channels than are counted, up to a multiple of 4.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { type KernelSource, read, u32s, write } from "../kernel.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";
import type { Tensor } from "../tensor.ts";

/** The frames of a block, and its rows, which are as many as its columns. */
export interface BlockSize {
  readonly time: 1 | 2;
  readonly space: 1 | 2;
}

/** The channels of input and output. */
export interface BlockChannels {
  readonly from: number;
  readonly to: number;
}

const SIZES = u32s("height", "width", "channels", "stride", "from_height", "from_width", "from_stride");

/** WGSL: frame, row, column and channel of the output's element `i`. */
const PLACE = `  let c = i % p.stride;
  let w = (i / p.stride) % p.width;
  let h = (i / (p.stride * p.width)) % p.height;
  let t = i / (p.stride * p.width * p.height);`;

const shortcut = (name: string, added: string): KernelSource =>
  perElement({
    name,
    buffers: { x: read("f32"), residual: read("f32"), y: write("f32") },
    params: { ...SIZES, ...u32s("time", "space", "group", "skip") },
    body: `${PLACE}
  var v = residual[i];
  if (c < p.channels) {
${added}
  }
  y[i] = v;`,
  });

const AVERAGE_DOWN = shortcut(
  "average_down",
  `    var sum = 0.0;
    for (var j = 0u; j < p.group; j++) {
      var rest = c * p.group + j;
      let column = w * p.space + rest % p.space;
      rest /= p.space;
      let row = h * p.space + rest % p.space;
      rest /= p.space;
      let frame = t * p.time + rest % p.time;
      if (frame >= p.skip) {
        sum += x[(((frame - p.skip) * p.from_height + row) * p.from_width + column) * p.from_stride + rest / p.time];
      }
    }
    v += sum / f32(p.group);`,
);

const REPEAT_UP = shortcut(
  "repeat_up",
  `    let frame = t + p.skip;
    let of_block = ((c * p.time + frame % p.time) * p.space + h % p.space) * p.space + w % p.space;
    let at = ((frame / p.time) * p.from_height + h / p.space) * p.from_width + w / p.space;
    v += x[at * p.from_stride + of_block / p.group];`,
);

/**
 * The residual plus the means of groups of the channels that blocks of x are. Where its frames do not divide into
 * blocks, zeros stand before them.
 *
 * @param x [frames, height, width, channels], f32
 * @param residual [⌈frames / time⌉, height / space, width / space, channels], f32
 * @returns the residual's shape
 */
export function averageDown(gpu: Gpu, x: Tensor, residual: Tensor, size: BlockSize, channels: BlockChannels): Tensor {
  const group = channels.from * size.time * size.space ** 2 / channels.to;
  const skip = (size.time - x.dim(0) % size.time) % size.time;
  return add(gpu, AVERAGE_DOWN, x, residual, channels, { ...size, group, skip });
}

/**
 * The residual plus x, whose channels are repeated and then stand as blocks.
 *
 * @param x [frames, height, width, channels], f32
 * @param residual [frames · time − skip, height · space, width · space, channels], f32
 * @param skip so many frames of the blocks are left out at the beginning
 * @returns the residual's shape
 */
export function repeatUp(
  gpu: Gpu,
  x: Tensor,
  residual: Tensor,
  size: BlockSize,
  channels: BlockChannels,
  skip: number,
): Tensor {
  const group = channels.to * size.time * size.space ** 2 / channels.from;
  return add(gpu, REPEAT_UP, x, residual, channels, { ...size, group, skip });
}

function add(
  gpu: Gpu,
  kernel: KernelSource,
  x: Tensor,
  residual: Tensor,
  { to }: BlockChannels,
  params: Readonly<Record<string, number>>,
): Tensor {
  const y = gpu.tensor(residual.shape);
  return runPerElement(gpu, kernel, { x, residual, y }, { ...sizesOf(x, y, to), ...params });
}

const square = (name: string, moved: string) =>
  perElement({
    name,
    buffers: { x: read("f32"), y: write("f32") },
    params: { ...SIZES, edge: "u32" },
    body: `${PLACE}
  var v = 0.0;
  if (c < p.channels) {
${moved}
  }
  y[i] = v;`,
  });

const PACK = square(
  "pack_pixels",
  `    let row = h * p.edge + c % p.edge;
    let column = w * p.edge + (c / p.edge) % p.edge;
    v = x[((t * p.from_height + row) * p.from_width + column) * p.from_stride + c / (p.edge * p.edge)];`,
);

const UNPACK = square(
  "unpack_pixels",
  `    let at = (t * p.from_height + h / p.edge) * p.from_width + w / p.edge;
    v = x[at * p.from_stride + (c * p.edge + w % p.edge) * p.edge + h % p.edge];`,
);

/**
 * Makes channels of squares of pixels: those of one channel stand side by side, column after column.
 *
 * @param x [frames, height, width, channels], f32
 * @param patch pixels along an edge of a square
 * @returns [frames, height / patch, width / patch, channels · patch²], f32, with zeros up to a multiple of 4 channels
 */
export function packPixels(gpu: Gpu, x: Tensor, patch: number, channels: number): Tensor {
  const [frames, height, width] = x.shape as [number, number, number, number], packed = channels * patch ** 2;
  const y = gpu.tensor([frames, height / patch, width / patch, Math.ceil(packed / 4) * 4]);
  return runPerElement(gpu, PACK, { x, y }, { ...sizesOf(x, y, packed), edge: patch });
}

/**
 * The inverse of {@link packPixels}.
 *
 * @param channels of the result
 * @returns [frames, height · patch, width · patch, channels], f32, with zeros up to a multiple of 4 channels
 */
export function unpackPixels(gpu: Gpu, x: Tensor, patch: number, channels: number): Tensor {
  const [frames, height, width] = x.shape as [number, number, number, number];
  const y = gpu.tensor([frames, height * patch, width * patch, Math.ceil(channels / 4) * 4]);
  return runPerElement(gpu, UNPACK, { x, y }, { ...sizesOf(x, y, channels), edge: patch });
}

function sizesOf(x: Tensor, y: Tensor, channels: number) {
  const [, from_height, from_width, from_stride] = x.shape as [number, number, number, number];
  const [, height, width, stride] = y.shape as [number, number, number, number];
  return { height, width, channels, stride, from_height, from_width, from_stride };
}
