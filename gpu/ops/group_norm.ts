import { clampedBuffer } from "../clamps.ts";
import { countedHalves } from "../formats/halves.ts";
import type { Gpu } from "../gpu.ts";
import { type KernelSource, read, u32s, write } from "../kernel.ts";
import { memo } from "../kernels/memo.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";
import { lanesOf, perRow, runPerRow } from "../kernels/row_reduction.ts";
import type { Tensor } from "../tensor.ts";

/** The rows whose moments one thread sums up. */
const BLOCK = 256;

/**
 * Mean and sum of squared differences from it, of each channel over each block of rows. Differences are taken from the
 * block's first row, because E[x²] − E[x]² loses digits.
 */
const BLOCKS = perElement({
  name: "group_norm_blocks",
  buffers: { x: read("vec4f"), means: write("vec4f"), y: write("vec4f") },
  params: u32s("rows", "c4"),
  body: `  let first = i / p.c4 * ${BLOCK}u;
  let rows = min(${BLOCK}u, p.rows - first);
  let at = first * p.c4 + i % p.c4;
  let pivot = x[at];
  var sum = vec4f();
  var squares = vec4f();
  for (var r = 1u; r < rows; r++) { let d = x[at + r * p.c4] - pivot; sum += d; squares += d * d; }
  let mean = sum / f32(rows);
  means[i] = pivot + mean;
  y[i] = max(squares - sum * mean, vec4f());`,
});

/** Joins the blocks of a group's channels, and makes each channel's mean and factor of them. */
const join = memo((plain: boolean): KernelSource =>
  perRow(lanesOf(plain), {
    name: `group_norm_join${plain ? "_plain" : ""}`,
    buffers: {
      ...{ means: read("f32"), squares: read("f32"), gamma: read("f32") },
      ...{ mean: write("f32"), scale: write("f32") },
    },
    params: { ...u32s("pixels", "blocks", "channels", "group"), eps: "f32" },
    body: `  let begin = min(row, p.rows - 1u) * p.group;
  var sum = 0.0;
  for (var b = lane; b < p.blocks; b += ${lanesOf(plain)}u) {
    let count = f32(min(${BLOCK}u, p.pixels - b * ${BLOCK}u));
    var part = 0.0;
    for (var c = begin; c < begin + p.group; c++) { part += means[b * p.channels + c]; }
    sum += part * count;
  }
  let total = f32(p.pixels) * f32(p.group);
  let middle = row_sum(sum, lane) / total;
  var squared = 0.0;
  for (var b = lane; b < p.blocks; b += ${lanesOf(plain)}u) {
    let count = f32(min(${BLOCK}u, p.pixels - b * ${BLOCK}u));
    var part = 0.0;
    for (var c = begin; c < begin + p.group; c++) {
      let d = means[b * p.channels + c] - middle;
      part += squares[b * p.channels + c] + d * d * count;
    }
    squared += part;
  }
  let factor = inverseSqrt(row_sum(squared, lane) / total + p.eps);
  if (row >= p.rows) { return; }
  // The last row also writes the channels that only fill up.
  let end = select(begin + p.group, p.channels, row == p.rows - 1u);
  for (var c = begin + lane; c < end; c += ${lanesOf(plain)}u) {
    mean[c] = middle;
    scale[c] = select(0.0, factor * gamma[c], c < begin + p.group);
  }`,
  })
);

/** Where the result goes: to another tensor, f32 or f16, or over x. */
type Into = "f32" | "f16" | "x";

const apply = memo((into: Into): KernelSource =>
  perElement({
    name: `group_norm_apply_${into}`,
    buffers: {
      ...into === "x" ? {} : { x: read("vec4f") },
      ...{ mean: read("vec4f"), scale: read("vec4f"), beta: read("vec4f") },
      y: write(into === "f16" ? "vec2u" : "vec4f"),
      ...into === "f16" && clampedBuffer,
    },
    params: u32s("c4", "silu"),
    declarations: into === "f16" ? countedHalves("inputs of convolutions") : "",
    body: `  let c = i % p.c4;
  var v = (${into === "x" ? "y" : "x"}[i] - mean[c]) * scale[c] + beta[c];
  if (p.silu != 0u) { v = v / (1.0 + exp(-v)); }
  y[i] = ${into === "f16" ? "four_halves(v)" : "v"};`,
  })
);

/** Options of {@link groupNorm}. */
export interface GroupNormOptions {
  /** The number of groups, which divides `dim`. */
  readonly groups: number;
  /** How many of the channels count. Default: all */
  readonly dim?: number;
  /** Is added to the variance. Default: 1e-6 */
  readonly eps?: number;
  /** Whether SiLU is applied to the result. */
  readonly silu?: boolean;
  /** Where the result goes: to a new tensor of that format, or over x. Default: "f32" */
  readonly into?: Into;
}

/**
 * Normalizes groups of neighbouring channels, each over all rows: y = (x − mean) / √(variance + eps) · gamma + beta.
 *
 * @param x [..., channels], f32; channels a multiple of 4, those beyond `dim` become beta
 * @param gamma [channels], f32
 * @param beta [channels], f32
 */
export function groupNorm(gpu: Gpu, x: Tensor, gamma: Tensor, beta: Tensor, options: GroupNormOptions): Tensor {
  const channels = x.dim(-1), pixels = x.size / channels, c4 = channels / 4;
  const { groups, dim = channels, eps = 1e-6, silu = false, into = "f32" } = options;
  if (gamma.size !== channels || beta.size !== channels || channels % 4 !== 0 || dim > channels || dim % groups !== 0) {
    throw new Error(`groupNorm: x [${x.shape}], gamma [${gamma.shape}], beta [${beta.shape}] in ${groups} groups`);
  }
  const y = into === "x" ? x : gpu.tensor(x.shape, into);
  gpu.scope(() => {
    const blocks = Math.ceil(pixels / BLOCK);
    const means = gpu.tensor([blocks, channels]), squares = gpu.tensor([blocks, channels]);
    const mean = gpu.tensor([channels]), scale = gpu.tensor([channels]);
    runPerElement(gpu, BLOCKS, { x, means, y: squares }, { rows: pixels, c4 });
    const params = { rows: groups, pixels, blocks, channels, group: dim / groups, eps };
    runPerRow(gpu, join(gpu.kernels.plain), { means, squares, gamma, mean, scale }, params);
    const buffers = { ...into === "x" ? {} : { x }, mean, scale, beta, y };
    runPerElement(gpu, apply(into), buffers, { c4, silu: silu ? 1 : 0 }, x.size / 4);
  });
  return y;
}
