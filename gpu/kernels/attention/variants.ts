import type { Gpu } from "../../gpu.ts";
import { matrixFits, matrixLayout, matrixName, matrixRows, type MatrixTile } from "./matrix_layout.ts";
import { dotBytes, dotFits, type DotTile } from "./dot.ts";
import { PLAIN_ROWS } from "./plain.ts";
import { type Tile, tileBytes } from "./tiled.ts";

export type ForwardVariant =
  | { readonly kernel: "tiled"; readonly tile: Tile }
  | { readonly kernel: "dot"; readonly tile: DotTile }
  | { readonly kernel: "matrix"; readonly tile: MatrixTile };

/** The number of queries that a workgroup holds at once; without a variant, that a thread of the plain kernel holds. */
export function forwardRows(variant: ForwardVariant | undefined, headDim: number): number {
  if (!variant) return PLAIN_ROWS(headDim);
  return variant.kernel === "matrix" ? matrixRows(variant.tile) : variant.tile.rows;
}

/** The first is the best guess for large GPUs; the second is for all others, because every adapter has memory for it. */
const TILES: readonly Omit<Tile, "f16" | "stretch" | "subgroups">[] = [
  { rows: 64, keys: 64, threads: 128, across: 16, values: 512 },
  { rows: 64, keys: 32, threads: 128, across: 8, values: 256 },
  { rows: 64, keys: 32, threads: 128, across: 8, values: 512 },
  { rows: 64, keys: 64, threads: 256, across: 16, values: 512 },
  { rows: 64, keys: 32, threads: 64, across: 8, values: 256 },
  { rows: 128, keys: 32, threads: 128, across: 8, values: 256 },
];

/** How operands are held. */
interface Format extends Pick<Tile, "f16" | "stretch"> {
  readonly format: string;
  /** The number of tiles to try, at most. */
  readonly most?: number;
}

const F32: Format = { format: "", f16: false };
const WITH_F16: readonly Format[] = [
  { format: "f16 in sixteens ", f16: true, stretch: 16 },
  { format: "f16 in eights ", f16: true, stretch: 8, most: 3 },
  { format: "f16 ", f16: true, most: 1 },
  { ...F32, most: 1 },
];

/** Again, the best guess comes first, and it needs the least memory. `tuning/defaults.ts` has others for large heads. */
const MATRIX_TILES: readonly Omit<MatrixTile, "units">[] = [
  { subgroups: [4, 1], rows: 16, keys: 32, sums: "f32", turns: 1, apart: false },
  { subgroups: [2, 2], rows: 32, keys: 32, sums: "f32", turns: 1, apart: false },
  { subgroups: [4, 2], rows: 32, keys: 32, sums: "f32", turns: 1, apart: true, delayed: true },
  { subgroups: [2, 2], rows: 32, keys: 32, sums: "f16", turns: 1, apart: true, delayed: true },
  { subgroups: [4, 2], rows: 32, keys: 32, sums: "i32", turns: 1, apart: true, delayed: true },
];

/** Tiles for operands in int8, without matrix units. The last ones are for small head dimensions and small subgroups. */
const DOT_TILES: readonly DotTile[] = [
  { rows: 64, keys: 64, threads: 128, across: 16, depth: 4 },
  { rows: 64, keys: 32, threads: 128, across: 8, depth: 4 },
  { rows: 32, keys: 32, threads: 64, across: 4, depth: 4 },
];

/**
 * The variants of precision int8: scores are summed in f16, or their operands are in int8. Without matrix units, values
 * are in int8, too. There are none where the device lacks what they need.
 */
export function int8Variants(gpu: Gpu, headDim: number): Map<string, ForwardVariant> {
  const found = matrixVariants(gpu, headDim, ["f16", "i32"]), room = gpu.device.limits.maxComputeWorkgroupStorageSize;
  for (const tile of found.size > 0 ? [] : DOT_TILES) {
    if (!dotFits(tile, headDim) || dotBytes(tile, headDim) > room || !haveSubgroups(gpu, 2 * tile.across)) continue;
    found.set(`int8 ${tile.rows}x${tile.keys} by ${tile.threads}`, { kernel: "dot", tile });
  }
  return found;
}

function matrixVariants(gpu: Gpu, headDim: number, wanted: readonly MatrixTile["sums"][]): Map<string, ForwardVariant> {
  const { matrixUnits: units, device: { limits: { maxComputeWorkgroupStorageSize: room } } } = gpu;
  const found = new Map<string, ForwardVariant>();
  for (const shape of units ? MATRIX_TILES : []) {
    const tile = { ...shape, units: units! };
    if (!wanted.includes(shape.sums) || shape.subgroups[0] * shape.subgroups[1] * units!.subgroup > gpu.maxThreads) {
      continue;
    }
    if (!matrixFits(tile, headDim) || matrixLayout(tile, headDim).bytes > room) continue;
    found.set(`matrix ${matrixName(shape)}`, { kernel: "matrix", tile });
  }
  return found;
}

/** Matrix units come before ordinary arithmetic, where operands are held in f16. Then the order is by likely speed. */
export function forwardVariants(gpu: Gpu, headDim: number): Map<string, ForwardVariant> {
  const room = gpu.device.limits.maxComputeWorkgroupStorageSize, found = matrixVariants(gpu, headDim, ["f32"]);
  // Beside matrix units, one tile is enough, for devices whose matrix units are slow.
  const some = found.size > 0 ? TILES.slice(1, 2) : TILES;
  for (const { format, f16, stretch, most } of gpu.f16 ? WITH_F16 : [F32]) {
    for (const shape of some.slice(0, most)) {
      const subgroups = haveSubgroups(gpu, 2 * Math.min(shape.across, headDim / 4));
      const tile = { ...shape, f16, ...stretch && { stretch }, subgroups };
      if (tileBytes(tile, headDim) > room) continue;
      const values = shape.values > 8 * shape.keys ? ", more values" : "";
      found.set(`${format}${shape.rows}x${shape.keys} by ${shape.threads}${values}`, { kernel: "tiled", tile });
    }
  }
  return found;
}

/** Whether subgroups have at least this many threads. */
function haveSubgroups({ device }: Gpu, threads: number): boolean {
  return device.features.has("subgroups") && (device.adapterInfo.subgroupMinSize ?? 0) >= threads;
}
