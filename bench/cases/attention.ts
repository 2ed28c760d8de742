/**
 * Self- and cross-attention.
 *
 * @module
 */
import { attention } from "../../gpu/ops/attention.ts";
import type { Case, Size } from "../case.ts";
import { normalTensor } from "../random.ts";

interface Shape {
  readonly heads: number;
  readonly headDim: number;
  readonly queries: number;
  readonly keys: number;
}

/** The large ones are Wan 1.3B's at 832x480, 81 frames: among tokens, and to the text. */
const SHAPES: Readonly<Record<Size, readonly Shape[]>> = {
  small: [
    { heads: 8, headDim: 32, queries: 512, keys: 512 },
    { heads: 4, headDim: 128, queries: 512, keys: 512 },
  ],
  large: [
    { heads: 12, headDim: 128, queries: 32760, keys: 32760 },
    { heads: 12, headDim: 128, queries: 32760, keys: 512 },
  ],
};

/** The cases of a size. */
export function attentionCases(size: Size): Case[] {
  return SHAPES[size].map(({ heads, headDim, queries, keys }) => ({
    name: `attention ${heads}×${headDim}, ${queries} to ${keys}`,
    prepare: (gpu) => {
      const dim = heads * headDim;
      const q = normalTensor(gpu, [1, queries, dim]);
      const [k, v] = [normalTensor(gpu, [1, keys, dim]), normalTensor(gpu, [1, keys, dim])];
      return Promise.resolve({
        work: () => gpu.scope(() => void attention(gpu, q, k, v, { heads })),
        release: () => [q, k, v].forEach((t) => gpu.release(t)),
      });
    },
  }));
}
