/**
 * The kernels of matrix products in int8, and the choice among them. They give the same sums, to the last bit.
 *
 * @module
 */
import type { Gpu } from "../../gpu.ts";
import { ENOUGH_TILES, type Launch } from "../product/variants.ts";
import { INT8_PLAIN, int8Plain } from "./int8_plain.ts";
import {
  int8Panels,
  type Int8Tile,
  int8TileBytes,
  int8Tiled,
  int8TileName,
  int8TileSize,
  int8TileThreads,
} from "./int8_tiled.ts";
import type { Output } from "./epilogue.ts";
import type { OperandForms } from "./operand_form.ts";
import {
  panelForms,
  panelGroups,
  type PanelVariant,
  panelVariants,
  shortPanels,
  smallPanels,
} from "./panel_variants.ts";

/** A product in int8 by `dot4I8Packed`. Without a tile, by the plain kernel. */
export interface DotVariant {
  readonly by: "dot products";
  readonly tile?: Int8Tile;
}

/** How a product in int8 is computed. */
export type Int8Variant = DotVariant | PanelVariant;

/** It starts with the best guess for a large GPU. */
const TILES: readonly Int8Tile[] = [
  { threads: [16, 16], outputs: [8, 8], depth: 32, ahead: true },
  { threads: [16, 16], outputs: [8, 8], depth: 32, ahead: true, packed: true },
  { threads: [16, 16], outputs: [8, 8], depth: 32, ahead: false },
];

/** For small products: a large tile reads less, but too few tiles leave a GPU idle. */
const SMALL: Int8Tile = { threads: [16, 16], outputs: [4, 4], depth: 32, ahead: false };

const byDots = (tile?: Int8Tile): DotVariant => ({ by: "dot products", ...tile && { tile } });

/** The plain kernel, which all devices can run. */
export const PLAIN_INT8: DotVariant = byDots();

/** The variants for large products on a device that computes some in int8, by name. */
export function int8Variants(gpu: Gpu): ReadonlyMap<string, Int8Variant> {
  if (!gpu.int8) return new Map();
  const { maxThreads, device: { limits: { maxComputeWorkgroupStorageSize } } } = gpu;
  const fitting = TILES.filter((tile) =>
    int8TileThreads(tile) <= maxThreads && int8TileBytes(tile) <= maxComputeWorkgroupStorageSize
  );
  const byThreads = fitting.map((tile): [string, Int8Variant] => [int8TileName(tile), byDots(tile)]);
  const byPanels = [...panelVariants(gpu, "i8")];
  // Matrix units are many times as fast: one of the others is enough, in case they give wrong results.
  return new Map(byPanels.length > 0 ? [...byPanels, ...byThreads.slice(0, 1)] : byThreads);
}

/** The sizes of a product. */
export interface Int8Problem {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/**
 * Products with fewer rows of x are not computed in int8: reading the weights takes them most of the time, and their
 * rows are few enough to stay exact.
 */
const LEAST_ROWS = 64;

/** Whether it is worth while to quantise the input of a product. The answer is the same on all devices. */
export const isForInt8 = ({ m }: Pick<Int8Problem, "m">) => m >= LEAST_ROWS;

/** Chooses how to compute a product. `best` is the device's fastest of {@link int8Variants}. */
export function int8VariantFor(gpu: Gpu, { m, n, k }: Int8Problem, best: () => Int8Variant): Int8Variant {
  // The kernels for GPUs read 16 numbers at a time and write four.
  if (gpu.kernels.plain || n % 4 !== 0 || k % 16 !== 0) return PLAIN_INT8;
  const large = best(), byPanels = large.by === "panels", short = byPanels && shortPanels(gpu, "i8", { m, n, k });
  if (short) return short;
  if (groupsOf(gpu, large, m, n).reduce((a, b) => a * b) >= ENOUGH_TILES) return large;
  return (byPanels ? smallPanels(gpu, "i8") : undefined) ?? byDots(SMALL);
}

/** The forms in which a variant reads its operands. */
export function int8Forms(gpu: Gpu, variant: Int8Variant): OperandForms {
  if (variant.by === "panels") return panelForms(gpu, variant);
  if (!variant.tile?.packed) return { x: { numbers: "i8" } };
  const { x, w } = int8Panels(variant.tile);
  return { x: { numbers: "i8", panel: x }, w: { numbers: "i8", panel: w } };
}

/** The kernel for a product by `variant`. */
export function int8Launch({ m, n }: Int8Problem, variant: DotVariant, output: Output): Launch {
  const { tile } = variant, kernel = tile ? int8Tiled({ tile, output }) : int8Plain;
  return { kernel, workgroups: dotGroups(variant, m, n) };
}

const groupsOf = (gpu: Gpu, variant: Int8Variant, m: number, n: number) =>
  variant.by === "panels" ? panelGroups(gpu, variant, m, n) : dotGroups(variant, m, n);

/** The numbers of workgroups along each axis. */
function dotGroups({ tile }: DotVariant, m: number, n: number): Launch["workgroups"] {
  if (!tile) {
    const { rows, cols, threads } = INT8_PLAIN;
    return [Math.ceil(n / cols / threads[0]), Math.ceil(m / rows / threads[1]), 1];
  }
  const [tileM, tileN] = int8TileSize(tile);
  return [Math.ceil(n / tileN), Math.ceil(m / tileM), 1];
}
