/**
 * The two ways to make a product on a GPU, as variants to choose among.
 *
 * @module
 */
import type { Gpu } from "../../gpu.ts";
import { type MatrixTile, matrixTileBytes, matrixTileName, matrixTileSize, matrixTileThreads } from "./matrix.ts";
import { type Tile, tileBytes, type TileFormat, tileName, tileSize, tileThreads } from "./tiled.ts";

/** How a product is made: by the threads' own arithmetic, or by matrix units. */
export type ProductVariant =
  | { readonly by: "threads"; readonly tile: Tile; readonly format: TileFormat }
  | { readonly by: "matrix units"; readonly tile: MatrixTile };

/** By the threads, in one number format. */
export const byThreads = (tile: Tile, format: TileFormat): ProductVariant => ({ by: "threads", tile, format });

/** By the matrix units, in f16. */
export const byMatrixUnits = (tile: MatrixTile): ProductVariant => ({ by: "matrix units", tile });

/** Outputs of a workgroup along m and n. */
export function variantSize(gpu: Gpu, variant: ProductVariant): readonly [m: number, n: number] {
  return variant.by === "threads" ? tileSize(variant.tile) : matrixTileSize(variant.tile, gpu.matrixUnits!);
}

/** Those of the variants that fit the device, by name, in their order. */
export function thatFit(gpu: Gpu, variants: readonly ProductVariant[]): ReadonlyMap<string, ProductVariant> {
  const { maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupStorageSize } = gpu.device.limits;
  const fits = (threads: number, bytes: number) =>
    threads <= maxComputeInvocationsPerWorkgroup && bytes <= maxComputeWorkgroupStorageSize;
  const units = gpu.matrixUnits;
  const named = variants.flatMap((variant): [string, ProductVariant][] => {
    if (variant.by === "threads") {
      const { tile, format } = variant;
      return fits(tileThreads(tile), tileBytes(tile, format)) ? [[tileName(tile, format), variant]] : [];
    }
    const { tile } = variant;
    return units && fits(matrixTileThreads(tile, units), matrixTileBytes(tile, units))
      ? [[matrixTileName(tile), variant]]
      : [];
  });
  return new Map(named);
}
