/**
 * Converts a decoded clip to 8-bit pictures.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { type KernelSource, read, write } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";
import { groups1d, INDEX_1D } from "./per_element.ts";

const KERNEL: KernelSource = {
  name: "rgb8",
  buffers: { x: read("f32"), y: write("u32") },
  params: { samples: "u32", pixels: "u32" },
  workgroupSize: [64, 1, 1],
  body: `  ${INDEX_1D}
  if (i * 4u >= p.samples) { return; }
  var word = 0u;
  for (var j = 0u; j < 4u; j++) {
    let at = min(i * 4u + j, p.samples - 1u);
    let v = clamp((x[(at % 3u) * p.pixels + at / 3u] + 1.0) * 127.5, 0.0, 255.0);
    word |= u32(round(v)) << (8u * j);
  }
  y[i] = word;`,
};

/**
 * round(255 · (x + 1) / 2), clamped to 0…255, with the colours of a pixel side by side.
 *
 * @param x [3, frames, height, width], f32; values outside −1…1 are clamped
 * @returns [⌈frames·height·width·3 / 4⌉], u32: the bytes of [frames, height, width, 3], the first the lowest of a word
 */
export function rgb8(gpu: Gpu, x: Tensor): Tensor {
  const y = gpu.tensor([Math.ceil(x.size / 4)], "u32");
  gpu.run(KERNEL, {
    buffers: { x, y },
    params: { samples: x.size, pixels: x.size / 3 },
    workgroups: groups1d(y.size),
  });
  return y;
}
