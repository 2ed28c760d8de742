/**
 * The ways to make a product that tests go through.
 *
 * @module
 */
import type { PanelNumbers } from "../gpu/kernels/gemm/pack.ts";
import type { PanelTile } from "../gpu/kernels/gemm/panel_tile.ts";
import type { PanelVariant } from "../gpu/kernels/gemm/panel_variants.ts";
import type { FloatVariant } from "../gpu/kernels/gemm/variants.ts";
import type { Tile } from "../gpu/kernels/product/tiled.ts";
import type { ProductVariant } from "../gpu/kernels/product/variants.ts";
import { GEMM } from "../gpu/ops/gemm.ts";
import type { KernelFamily } from "../gpu/tuning/family.ts";
import type { Variant } from "./gpu.ts";

/** Fewer groups than threads, as many, and several a thread; one depth and another; every way to read and stage. */
const SMALL_TILES: readonly Tile[] = [
  { threads: [4, 8], outputs: [4, 4], depth: 8, ahead: true, twice: true },
  { threads: [4, 16], outputs: [8, 4], depth: 16, ahead: false },
  { threads: [4, 8], outputs: [4, 12], depth: 16, ahead: true },
  { threads: [4, 8], outputs: [4, 4], depth: 32, ahead: true },
];

/** The code of each kind of variant, in tiles that a software renderer compiles in a second. */
const SMALL: Readonly<Record<Variant["name"], readonly ProductVariant[]>> = {
  "plain": [],
  "tiled": SMALL_TILES.map((tile) => ({ by: "threads", tile, format: "f32" })),
  "tiled f16": ([[0, 0], [0, 8], [1, 16], [3, 32]] as const).map(([tile, stretch]) => ({
    by: "threads",
    tile: SMALL_TILES[tile]!,
    format: { stretch },
  })),
  "matrix f16": [
    { by: "matrix units", tile: { subgroups: [1, 2], units: [2, 1], depth: 1, ahead: false } },
    { by: "matrix units", tile: { subgroups: [2, 1], units: [1, 1], depth: 1, ahead: true, packed: true } },
    { by: "matrix units", tile: { subgroups: [4, 1], units: [1, 3], depth: 2, ahead: true } },
  ],
};

/** Several strips of sums, fewer elements than threads and a share that not all threads have. */
const SMALL_PANELS: readonly PanelTile[] = [
  { subgroups: [2, 1], units: [1, 2], depth: 2 },
  { subgroups: [1, 2], units: [3, 1], depth: 2 },
  { subgroups: [1, 3], units: [2, 2], depth: 4 },
];

/** Those of a family on a real GPU; on a software renderer smaller ones with the same code. */
export function productVariants<V>(
  { name, gpu, hardware }: Variant,
  family: KernelFamily<ProductVariant | V>,
): ReadonlyMap<string, ProductVariant | V> {
  return hardware ? family.variants(gpu) : byName(SMALL[name]);
}

/** As {@link productVariants}, for matrix products. */
export function gemmVariants(variant: Variant): ReadonlyMap<string, FloatVariant> {
  return new Map([...productVariants(variant, GEMM), ...smallPanels(variant, "f16")]);
}

/** Small variants of products of panels, where a software renderer can compute these. */
export function smallPanels(
  { name, gpu, hardware }: Variant,
  numbers: PanelNumbers,
): ReadonlyMap<string, PanelVariant> {
  const can = !hardware && name === "matrix f16" && (numbers === "f16" || gpu.matrixUnits?.int8);
  return byName(can ? SMALL_PANELS.map((tile): PanelVariant => ({ by: "panels", numbers, tile })) : []);
}

const byName = <V>(variants: readonly V[]) => new Map(variants.map((variant) => [JSON.stringify(variant), variant]));
