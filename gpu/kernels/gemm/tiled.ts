/**
 * Matrix products for GPUs by ordinary arithmetic: for devices without matrix units, or in f32.
 *
 * @module
 */
import { clampedBuffer, noteClamped } from "../../clamps.ts";
import type { KernelSource } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { type TiledBy, tiledProduct, tileName } from "../product/tiled.ts";
import { epilogue, GEMM_PARAMS, gemmBuffers } from "./epilogue.ts";
import { gemmLoader } from "./loader.ts";
import type { PlainGemm } from "./plain.ts";

/** Makes the kernel. k and n are multiples of 4. With `transposed`, it takes w[k, n]. */
export const gemmTiled = memo(({ tile, format, weights, transposed }: TiledBy & PlainGemm): KernelSource => {
  const { four } = weights.read;
  const counts = format !== "f32";
  const product = tiledProduct(tile, format, {
    loader: gemmLoader({
      depth: tile.depth / 4,
      length: "p.k4",
      x: (at) => `x[${at}]`,
      w: (at) => four.read("w", at),
      transposed,
    }),
    elements: ["vec4f", four.value],
    unpack: (element) => `unpack4(${element})`,
    transposed,
    counted: counts,
    store: (m, n, sums) => `  store(${m}, ${n}, ${sums});`,
  });
  return {
    name: `gemm_${tileName(tile, format)}_${weights}${transposed ? "_transposed" : ""}`,
    buffers: { ...gemmBuffers("vec4f", four.element, "vec4f"), ...counts && clampedBuffer },
    params: GEMM_PARAMS,
    ...product,
    declarations: `${four.declare("w")}${four.unpack4}${counts ? noteClamped("inputs of matrix products") : ""}${
      epilogue("vec4f")
    }${product.declarations}`,
  };
});
