/**
 * Matrix products by matrix units.
 *
 * @module
 */
import type { KernelSource } from "../../kernel.ts";
import type { MatrixUnits } from "../../matrix_units.ts";
import { memo } from "../memo.ts";
import { eight, type WeightDtype } from "../packed.ts";
import {
  matrixProduct,
  type MatrixTile,
  matrixTileName,
  matrixTileSize,
  matrixTileThreads,
} from "../product/matrix.ts";
import { epilogue, epilogueInBlocks, GEMM_PARAMS, gemmBuffers } from "./epilogue.ts";
import type { Cut } from "./pack.ts";
import { gemmWalk, packedWalk } from "./walk.ts";

/** A variant of {@link gemmMatrix}. */
export interface MatrixGemm {
  readonly tile: MatrixTile;
  readonly units: MatrixUnits;
  readonly dtype: WeightDtype;
  /** The output is cut so, in f16. */
  readonly into?: Cut | undefined;
}

/** k is a multiple of 8, n of 4; with a `packed` tile x and w lie as `pack.ts` leaves them. */
export const gemmMatrix = memo(({ tile, units, dtype, into }: MatrixGemm): KernelSource => {
  const x = eight(tile.packed ? "f16" : "f32"), w = eight(tile.packed ? "f16" : dtype);
  const depth = tile.depth * units.k / 8;
  const product = matrixProduct(tile, units, {
    walk: tile.packed
      ? packedWalk({ depth, rows: matrixTileSize(tile, units), threads: matrixTileThreads(tile, units) })
      : gemmWalk({
        depth,
        length: "(p.k4 / 2u)",
        x: (at) => x.read("x", at),
        w: (at) => w.read("w", at),
        transposed: false,
      }),
    elements: [x.value, w.value],
    halves: ["x_halves", "w_halves"],
    store: (m, n, sums) => `store(${m}, ${n}, ${sums});`,
  });
  return {
    name: `gemm_${matrixTileName(tile)}${tile.packed ? "" : `_${dtype}`}${
      into ? `_into_${into.rows}x${8 * into.depth}` : ""
    }`,
    buffers: gemmBuffers(x.element, w.element, "vec4f", into && "vec2u"),
    params: GEMM_PARAMS,
    ...product,
    declarations: `${product.declarations}${x.halves("x_halves")}${w.halves("w_halves")}${
      into ? epilogueInBlocks(into) : epilogue("vec4f")
    }`,
  };
});
