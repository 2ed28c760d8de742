/**
 * The two ways to compute a product on a GPU, as variants to choose among.
 *
 * @module
 */
import type { Gpu } from "../../gpu.ts";
import type { KernelSource } from "../../kernel.ts";
import { type MatrixTile, matrixTileBytes, matrixTileName, matrixTileSize, matrixTileThreads } from "./matrix.ts";
import { type Tile, tileBytes, type TileFormat, tileName, tileSize, tileThreads } from "./tiled.ts";

/** How a product is computed: by ordinary arithmetic or by matrix units. */
export type ProductVariant =
  | { readonly by: "threads"; readonly tile: Tile; readonly format: TileFormat }
  | { readonly by: "matrix units"; readonly tile: MatrixTile };

/** The variants of one kind of product. Each list starts with the best guess for a large GPU. */
export interface Repertoire {
  readonly f32: readonly Tile[];
  /** With f16 operands and without matrix units. Some GPUs are faster in f32, so f32 may win this trial, too. */
  readonly f16: readonly (readonly [Tile, TileFormat])[];
  readonly matrix: readonly MatrixTile[];
  /** For small products: a large tile reads less, but too few tiles leave a GPU idle. */
  readonly small: { readonly tile: Tile; readonly matrix: MatrixTile };
}

/** Fewer tiles than this leave a GPU idle. */
export const ENOUGH_TILES = 128;

const byThreads = (tile: Tile, format: TileFormat): ProductVariant => ({ by: "threads", tile, format });
const byMatrixUnits = (tile: MatrixTile): ProductVariant => ({ by: "matrix units", tile });

/** The variants for large products on a device, at its precision, by name. */
export function variantsOf(gpu: Gpu, { f32, f16, matrix }: Repertoire): ReadonlyMap<string, ProductVariant> {
  if (gpu.matrixUnits) return thatFit(gpu, matrix.map(byMatrixUnits));
  if (gpu.f16) return thatFit(gpu, f16.map(([tile, format]) => byThreads(tile, format)));
  return thatFit(gpu, f32.map((tile) => byThreads(tile, "f32")));
}

/** The requirements of a product. */
export interface ProductNeeds<V> {
  /** Whether operands may be held in f16. */
  readonly f16: boolean;
  /** Whether matrix units can compute it. */
  readonly matrix: boolean;
  /** The numbers of its tiles along each axis, for a variant. */
  tiles(variant: ProductVariant | V): Launch["workgroups"];
}

/**
 * Chooses how to compute a product. `best` is the device's fastest of {@link variantsOf} and of other variants.
 */
export function variantFor<V extends { readonly by: string } = ProductVariant>(
  gpu: Gpu,
  { f32, f16, small }: Repertoire,
  needs: ProductNeeds<V>,
  best: () => ProductVariant | V,
): ProductVariant | V {
  const bySize = (large: ProductVariant | V, small: ProductVariant) =>
    needs.tiles(large).reduce((a, b) => a * b) >= ENOUGH_TILES ? large : small;
  if (!needs.f16) return bySize(gpu.f16 ? byThreads(f32[0]!, "f32") : best(), byThreads(small.tile, "f32"));
  if (gpu.matrixUnits && needs.matrix) return bySize(best(), byMatrixUnits(small.matrix));
  return bySize(gpu.matrixUnits ? byThreads(...f16[0]!) : best(), byThreads(small.tile, { stretch: 0 }));
}

/**
 * The best width up to `max`, in steps: its multiples by `per` cover `length` with the least waste. Of equal ones, the
 * largest.
 */
export function fittingWidth(length: number, per: number, max: number, step: number): number {
  const widths = Array.from({ length: max / step }, (_, i) => max - i * step);
  const covered = (width: number) => Math.ceil(length / (per * width)) * per * width;
  return widths.reduce((best, width) => covered(width) < covered(best) ? width : best);
}

/** A kernel and the number of its workgroups. */
export interface Launch {
  readonly kernel: KernelSource;
  readonly workgroups: readonly [number, number, number];
}

/** The number of workgroups that compute m×n outputs. */
export function workgroupsOf(gpu: Gpu, variant: ProductVariant, m: number, n: number): Launch["workgroups"] {
  const [tileM, tileN] = variant.by === "threads"
    ? tileSize(variant.tile)
    : matrixTileSize(variant.tile, gpu.matrixUnits!);
  return [Math.ceil(n / tileN), Math.ceil(m / tileM), 1];
}

/** The variants that fit the device, by name, in the given order. */
function thatFit(gpu: Gpu, variants: readonly ProductVariant[]): ReadonlyMap<string, ProductVariant> {
  const { maxThreads, device: { limits: { maxComputeWorkgroupStorageSize } } } = gpu;
  const fits = (threads: number, bytes: number) => threads <= maxThreads && bytes <= maxComputeWorkgroupStorageSize;
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
