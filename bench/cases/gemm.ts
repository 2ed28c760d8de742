/**
 * Matrix products of linear layers, with bf16 weights as Wan's checkpoints have them.
 *
 * @module
 */
import { linear } from "../../gpu/ops/linear.ts";
import type { Case, Size } from "../case.ts";
import { normalTensor } from "../random.ts";

/**
 * Rows, columns, and what is added up; the large ones are a square, and Wan 1.3B's feed-forward at 832x480, 81
 * frames.
 */
const SHAPES: Readonly<Record<Size, readonly (readonly [m: number, n: number, k: number])[]>> = {
  small: [[1024, 1024, 1024], [512, 1024, 256]],
  large: [[4096, 4096, 4096], [32760, 8960, 1536], [32760, 1536, 8960]],
};

/** The cases of a size. */
export function gemmCases(size: Size): Case[] {
  return SHAPES[size].map(([m, n, k]) => ({
    name: `GEMM ${m}×${n}×${k}`,
    prepare: (gpu) => {
      const x = normalTensor(gpu, [m, k]), w = normalTensor(gpu, [n, k], 1 / Math.sqrt(k), "bf16");
      return Promise.resolve({
        work: () => gpu.scope(() => void linear(gpu, x, w)),
        release: () => [x, w].forEach((t) => gpu.release(t)),
      });
    },
  }));
}
