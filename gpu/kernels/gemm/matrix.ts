/**
 * Matrix products by matrix units.
 *
 * @module
 */
import { clampedBuffer, noteClamped } from "../../clamps.ts";
import type { KernelSource } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { f16 } from "../../formats/f16.ts";
import { f32 } from "../../formats/f32.ts";
import type { MatrixFormat } from "../../formats/format.ts";
import { type MatrixBy, matrixProduct, matrixTileName, matrixTileSize, matrixTileThreads } from "../product/matrix.ts";
import type { OperandLoader } from "../product/product.ts";
import { epilogue, GEMM_PARAMS, gemmBuffers, panelEpilogue } from "./epilogue.ts";
import type { PanelShape } from "./pack.ts";
import { gemmLoader, packedLoader } from "./loader.ts";

/** Many workgroups stage the same rows of x. `counting` says which of them counts the numbers that f16 cannot hold. */
const countingLoader = (loader: OperandLoader): OperandLoader => ({
  ...loader,
  begin: (x, w) => `  counting = wid_n == 0u;\n${loader.begin(x, w)}`,
});

/** A variant of {@link gemmMatrix}. */
export interface MatrixGemm extends MatrixBy {
  readonly weights: MatrixFormat;
  /** The output's panels, in f16. */
  readonly into?: PanelShape | undefined;
}

/**
 * Makes the kernel. k is a multiple of 8, n of 4. With a `packed` tile, x and w have the layout that `pack.ts` writes.
 */
export const gemmMatrix = memo(({ tile, units, weights, into }: MatrixGemm): KernelSource => {
  const x = (tile.packed ? f16 : f32).read.eight, w = (tile.packed ? f16 : weights).read.eight;
  const depth = tile.depth * units.k / 8;
  const product = matrixProduct(tile, units, {
    loader: tile.packed
      ? packedLoader(depth, matrixTileSize(tile, units), matrixTileThreads(tile, units))
      : countingLoader(gemmLoader({
        depth,
        length: "(p.k4 / 2u)",
        x: (at) => x.read("x", at),
        w: (at) => w.read("w", at),
        transposed: false,
      })),
    elements: [x.value, w.value],
    halves: ["x_halves", "w_halves"],
    store: (m, n, sums) => `store(${m}, ${n}, ${sums});`,
  });
  // The epilogue may have declared it already.
  const note = into ? "" : noteClamped("inputs of matrix products");
  const counting = tile.packed ? x.halves("x_halves") : `
var<private> counting: bool;${note}${x.halves("x_halves", "if (counting) { note_clamped(v); }")}`;
  return {
    name: `gemm_${matrixTileName(tile)}${tile.packed ? "" : `_${weights}`}${
      into ? `_into_${into.rows}x${8 * into.depth}` : ""
    }`,
    buffers: {
      ...gemmBuffers(x.element, w.element, "vec4f", into && "vec2u"),
      ...(into || !tile.packed) && clampedBuffer,
    },
    params: GEMM_PARAMS,
    ...product,
    declarations: `${product.declarations}${w.declare("w")}${counting}${w.halves("w_halves")}${
      into ? panelEpilogue(into) : epilogue("vec4f")
    }`,
  };
});
