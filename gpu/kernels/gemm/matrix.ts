/**
 * Matrix products by matrix units, of operands that are not packed: small ones. `panel_matrix.ts` is for the others.
 *
 * @module
 */
import { clampedBuffer, noteClamped } from "../../clamps.ts";
import type { KernelSource } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { f32 } from "../../formats/f32.ts";
import type { MatrixFormat } from "../../formats/format.ts";
import { type MatrixBy, matrixProduct, matrixTileName } from "../product/matrix.ts";
import type { OperandLoader } from "../product/product.ts";
import { epilogue, GEMM_PARAMS, gemmBuffers } from "./epilogue.ts";
import { gemmLoader } from "./loader.ts";

/** Many workgroups stage the same rows of x. `counting` says which of them counts the numbers that f16 cannot hold. */
const countingLoader = (loader: OperandLoader): OperandLoader => ({
  ...loader,
  begin: (x, w) => `  counting = wid_n == 0u;\n${loader.begin(x, w)}`,
});

/** A variant of {@link gemmMatrix}. */
export interface MatrixGemm extends MatrixBy {
  readonly weights: MatrixFormat;
}

/** Makes the kernel. k is a multiple of 8, n of 4. */
export const gemmMatrix = memo(({ tile, units, weights }: MatrixGemm): KernelSource => {
  const x = f32.read.eight, w = weights.read.eight;
  const product = matrixProduct(tile, units, {
    loader: countingLoader(gemmLoader({
      depth: tile.depth * units.k / 8,
      length: "(p.k4 / 2u)",
      x: (at) => x.read("x", at),
      w: (at) => w.read("w", at),
      transposed: false,
    })),
    elements: [x.value, w.value],
    halves: ["x_halves", "w_halves"],
    store: (m, n, sums) => `store(${m}, ${n}, ${sums});`,
  });
  return {
    name: `gemm_${matrixTileName(tile)}_${weights}`,
    buffers: { ...gemmBuffers(x.element, w.element, "vec4f"), ...clampedBuffer },
    params: GEMM_PARAMS,
    ...product,
    declarations: `${product.declarations}${w.declare("w")}
var<private> counting: bool;${noteClamped("inputs of matrix products")}${
      x.halves("x_halves", "if (counting) { note_clamped(v); }")
    }${w.halves("w_halves")}${epilogue("vec4f")}`,
  };
});
