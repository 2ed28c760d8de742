/**
 * The sizes at which kernels are to be fast, by the family of kernels: what the sweep times every variant on.
 *
 * @module
 */
import { product } from "../../model/attention/grid.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { attention } from "../../gpu/ops/attention.ts";
import { CONV3D, conv3d } from "../../gpu/ops/conv3d.ts";
import { linear } from "../../gpu/ops/linear.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TilePattern } from "../../model/veda/tile_pattern.ts";
import { defaultCapacity, defaultShape } from "../../model/veda/tile_shapes.ts";
import type { Size } from "../case.ts";
import { normalTensor } from "../random.ts";
import { WAN_SHAPES } from "../wan_shapes.ts";

/** One size of one family. */
export interface TargetCase {
  readonly name: string;
  /** Makes the operands, which belong to the scope around. */
  prepare(gpu: Gpu): PreparedTarget;
}

/** Ready to run. */
export interface PreparedTarget {
  /** Floating-point operations of one run, counted as `FLOP_FORMULAS` says, but only those of pairs that are kept. */
  readonly flops: number;
  /** Records one run; what it gives is the caller's. */
  readonly work: () => Tensor;
  /** Frees what belongs to no scope. */
  readonly release?: () => void;
}

/** The cases of a family, told by its name; none for a family that has no target. */
export function targetCases(family: string, size: Size): TargetCase[] {
  if (/gemm|linear/.test(family)) return gemms(size);
  if (/attention.*plan/.test(family)) return [veda(size, 0.1)];
  if (/attention/.test(family)) return [dense(size)];
  if (/conv/.test(family)) return [conv(size)];
  return [];
}

/** The two products of the feed-forward, or one that is just large enough not to count as small. */
function gemms(size: Size): TargetCase[] {
  const { config: { dim, ffnDim }, grid } = shapeOf("large");
  const m = product(grid);
  const sizes = size === "small" ? [[4096, 1024, 64] as const] : [[m, dim, ffnDim] as const, [m, ffnDim, dim] as const];
  return sizes.map(([m, n, k]) => ({
    name: `GEMM ${m}×${n}×${k}`,
    prepare: (gpu) => {
      const x = normalTensor(gpu, [m, k]), w = normalTensor(gpu, [n, k], 1 / Math.sqrt(k), "bf16");
      return { flops: 2 * m * n * k, work: () => linear(gpu, x, w) };
    },
  }));
}

function dense(size: Size): TargetCase {
  const { config: { heads, headDim, dim }, grid } = shapeOf(size);
  const tokens = product(grid);
  return {
    name: `attention ${heads}×${headDim}, ${tokens} tokens`,
    prepare: (gpu) => {
      const [q, k, v] = operands(gpu, tokens, dim);
      const flops = 4 * dim * tokens ** 2;
      return { flops, work: () => attention(gpu, q, k, v, { heads }) };
    },
  };
}

/** Attention over tiles that were picked beforehand. */
function veda(size: Size, keep: number): TargetCase {
  const { config, grid } = shapeOf(size);
  const { heads, headDim, dim } = config;
  const shape = defaultShape(grid, defaultCapacity(grid));
  return {
    name: `attention ${heads}×${headDim}, ${product(grid)} tokens, veda keep ${keep}`,
    prepare: (gpu) => {
      const [q, k, v] = operands(gpu, product(grid), dim);
      const pattern = new TilePattern(gpu, config, { grid, kept: 0 }, shape, keep);
      const projection = normalTensor(gpu, [heads, 3 * headDim, headDim], 1e-2);
      const runs = gpu.scope(() => pattern.select(pattern.scores(q, k, { q: projection, k: projection })));
      return {
        flops: 4 * dim * pattern.pairs,
        work: () => pattern.attend(q, k, v, runs),
        release: () => pattern[Symbol.dispose](),
      };
    },
  };
}

/** Of the last stage of the VAE. */
function conv(size: Size): TargetCase {
  const channels = 96;
  const [frames, height, width] = size === "small" ? [2, 16, 32] as const : [4, 480, 832] as const;
  return {
    name: `conv3d ${channels} channels, ${frames}×${height}×${width}`,
    prepare: (gpu) => {
      const x = normalTensor(gpu, [frames + 2, height, width, channels]);
      const w = normalTensor(gpu, [channels, 3, 3, 3, channels], 1 / Math.sqrt(27 * channels));
      const bias = normalTensor(gpu, [channels]);
      return {
        flops: 2 * frames * height * width * channels ** 2 * 27,
        // Named, as a small one would be made by a small tile whatever the variant.
        work: () => conv3d(gpu, x, w, bias, { variant: gpu.kernels.pick(CONV3D) }),
      };
    },
  };
}

/** Wan 1.3B's, or a small one with heads as wide: kernels are chosen for a width. */
function shapeOf(size: Size) {
  const { config, grid } = WAN_SHAPES["1.3b"];
  if (size === "large") return { config, grid };
  return { config: { ...config, heads: 2, dim: 2 * config.headDim }, grid: WAN_SHAPES.small.grid };
}

function operands(gpu: Gpu, tokens: number, dim: number): [Tensor, Tensor, Tensor] {
  return [0, 1, 2].map((which) => normalTensor(gpu, [1, tokens, dim], 1, "f32", which)) as [Tensor, Tensor, Tensor];
}
