import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import type { Tensor } from "../tensor.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

const KERNEL = perElement({
  name: "rgb8",
  buffers: { x: read("f32"), y: write("u32") },
  params: u32s("samples", "pixels"),
  body: `  var word = 0u;
  for (var j = 0u; j < 4u; j++) {
    let at = min(i * 4u + j, p.samples - 1u);
    let v = clamp((x[(at % 3u) * p.pixels + at / 3u] + 1.0) * 127.5, 0.0, 255.0);
    word |= u32(round(v)) << (8u * j);
  }
  y[i] = word;`,
});

/**
 * Converts a decoded clip to 8-bit pictures, with the colours of a pixel side by side: round(255 · (x + 1) / 2).
 *
 * @param x [3, frames, height, width], f32; values outside −1…1 are clamped
 * @returns [⌈frames·height·width·3 / 4⌉], u32: the bytes of [frames, height, width, 3], the first the lowest of a word
 */
export function rgb8(gpu: Gpu, x: Tensor): Tensor {
  const y = gpu.tensor([Math.ceil(x.size / 4)], "u32");
  return runPerElement(gpu, KERNEL, { x, y }, { samples: x.size, pixels: x.size / 3 });
}
