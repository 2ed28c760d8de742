/**
 * The 3×3×3 convolutions of the VAE.
 *
 * @module
 */
import { conv3d } from "../../gpu/ops/conv3d.ts";
import type { Case, Size } from "../case.ts";
import { normalTensor } from "../random.ts";

interface Shape {
  readonly channels: number;
  readonly frames: number;
  readonly height: number;
  readonly width: number;
}

/** The large ones are of Wan's VAE at 832x480: the last stage, and the second. */
const SHAPES: Readonly<Record<Size, readonly Shape[]>> = {
  small: [
    { channels: 96, frames: 2, height: 32, width: 32 },
    { channels: 384, frames: 2, height: 8, width: 8 },
  ],
  large: [
    { channels: 96, frames: 4, height: 480, width: 832 },
    { channels: 384, frames: 4, height: 120, width: 208 },
  ],
};

/** The cases of a size. */
export function conv3dCases(size: Size): Case[] {
  return SHAPES[size].map(({ channels, frames, height, width }) => ({
    name: `conv3d ${channels} channels, ${frames}×${height}×${width}`,
    prepare: (gpu) => {
      // Two frames more come before those that are computed.
      const x = normalTensor(gpu, [frames + 2, height, width, channels]);
      const weight = normalTensor(gpu, [channels, 3, 3, 3, channels], 1 / Math.sqrt(27 * channels));
      const bias = normalTensor(gpu, [channels]);
      return Promise.resolve({
        work: () => gpu.scope(() => void conv3d(gpu, x, weight, bias)),
        release: () => [x, weight, bias].forEach((t) => gpu.release(t)),
      });
    },
  }));
}
