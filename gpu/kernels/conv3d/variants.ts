import type { Gpu } from "../../gpu.ts";
import type { MatrixUnits } from "../../matrix_units.ts";
import {
  fittingWidth,
  type Launch,
  type ProductVariant,
  type Repertoire,
  variantFor,
  variantsOf,
  workgroupsOf,
} from "../product/variants.ts";
import { type TiledBy, tileName } from "../product/tiled.ts";
import type { Conv3dShape } from "./shape.ts";
import { conv3dMatrix, conv3dTiled } from "./tiled.ts";
import { type WindowBy, windowBytes, windowName, windowSizes, type WindowTile } from "./window.ts";

/** How a convolution is computed. The last two ways are for 3×3 kernels of stride 1. */
export type ConvVariant =
  | ProductVariant
  | { readonly by: "windows"; readonly tile: WindowTile }
  | { readonly by: "squares" } & TiledBy;

/** The width of a tile along n is an upper bound; see {@link narrowed}. Wan's own VAE has multiples of 96 channels. */
const TILES = {
  ahead: { threads: [16, 8], outputs: [8, 12], depth: 16, ahead: true },
  inTurn: { threads: [16, 8], outputs: [8, 12], depth: 16, ahead: false },
} as const;

const REPERTOIRE: Repertoire = {
  f32: [
    TILES.ahead,
    TILES.inTurn,
    { threads: [16, 8], outputs: [8, 12], depth: 16, ahead: true, twice: true },
    { threads: [16, 8], outputs: [8, 8], depth: 16, ahead: true },
    { threads: [32, 8], outputs: [8, 12], depth: 16, ahead: true },
    { threads: [32, 8], outputs: [4, 12], depth: 16, ahead: true },
  ],
  f16: [
    [TILES.ahead, { stretch: 0 }],
    [TILES.inTurn, { stretch: 0 }],
    [{ ...TILES.ahead, depth: 32 }, { stretch: 16 }],
    [{ ...TILES.inTurn, depth: 32 }, { stretch: 16 }],
    [{ threads: [16, 8], outputs: [4, 12], depth: 32, ahead: true }, { stretch: 16 }],
    [{ threads: [16, 8], outputs: [4, 12], depth: 32, ahead: false }, { stretch: 16 }],
    [TILES.inTurn, { stretch: 8 }],
    [TILES.ahead, "f32"],
    [TILES.inTurn, "f32"],
  ],
  matrix: [
    { subgroups: [4, 2], units: [2, 4], depth: 2, ahead: true, packed: true },
    { subgroups: [4, 2], units: [4, 4], depth: 2, ahead: true, packed: true },
  ],
  small: {
    tile: { threads: [16, 8], outputs: [4, 8], depth: 16, ahead: false },
    matrix: { subgroups: [2, 2], units: [2, 2], depth: 2, ahead: true, packed: true },
  },
};

const WINDOWS: readonly WindowTile[] = [
  { across: 1, subgroups: [2, 2], units: [4, 3], depth: 1, taps: "row", ahead: true },
  { across: 1, subgroups: [2, 2], units: [4, 3], depth: 2, taps: "one", ahead: true },
];

/** The first is the most exact, for where there is no trial. */
const SQUARES: readonly TiledBy[] = [
  { tile: TILES.ahead, format: { stretch: 0 } },
  { tile: { ...TILES.ahead, depth: 32 }, format: { stretch: 16 } },
  { tile: { ...TILES.inTurn, depth: 32 }, format: { stretch: 16 } },
];

/** The variants for large convolutions on a device, at its precision, by name. */
export function conv3dVariants(gpu: Gpu): ReadonlyMap<string, ConvVariant> {
  const named = new Map<string, ConvVariant>(), units = gpu.matrixUnits;
  if (units) {
    const most = gpu.device.limits.maxComputeWorkgroupStorageSize;
    for (const tile of WINDOWS) {
      const by = { tile, units, up: 1, upTime: 1 } as const;
      if (windowSizes(by).threads > gpu.maxThreads || windowBytes(by) > most) continue;
      named.set(windowName(tile), { by: "windows", tile });
    }
  } else if (gpu.f16) {
    for (const by of SQUARES) named.set(`squares_${tileName(by.tile, by.format)}`, { by: "squares", ...by });
  }
  for (const [name, variant] of variantsOf(gpu, REPERTOIRE)) named.set(name, variant);
  return named;
}

/** The layout that weights have for a variant: in rows, or as one of the two ways for 3×3 kernels reads them. */
export type WeightLayout =
  | { readonly by: "rows" }
  | { readonly by: "windows" } & WindowBy
  | { readonly by: "squares" } & TiledBy;

/** What the layout of weights depends on: as `conv3d` has them. */
export interface WeightUse {
  readonly stride?: 1 | 2;
  readonly up?: 1 | 2;
  readonly upTime?: 1 | 2;
}

/** The layout of weights [out, kernel frames, kernel height, kernel width, in]. */
export function weightLayout(
  gpu: Gpu,
  [channels, frames, height, width, channelsIn]: readonly number[],
  { stride = 1, up = 1, upTime = 1 }: WeightUse,
  variant: ConvVariant,
): WeightLayout {
  const isWindow = stride === 1 && height === 3 && width === 3;
  if (!isWindow || variant.by === "threads" || variant.by === "matrix units") return { by: "rows" };
  if (variant.by === "squares") return { ...variant, tile: narrowedTile(variant.tile, channels!) };
  if (channelsIn! % 8 !== 0 || upTime === 2 && frames !== 3) return { by: "rows" };
  const units = gpu.matrixUnits!;
  return { by: "windows", tile: narrowedWindow(variant.tile, units, channels!), units, up, upTime };
}

export interface Conv3dProblem extends Conv3dShape {
  /** The number of output pixels, over all frames. */
  readonly pixels: number;
  readonly channelsIn: number;
  readonly channels: number;
}

/** Chooses how to compute a convolution whose weights are in rows. `best` is the device's fastest variant. */
export function conv3dVariantFor(gpu: Gpu, problem: Conv3dProblem, best: () => ConvVariant): ProductVariant {
  const { pixels, channelsIn, channels } = problem;
  const tiles = (variant: ProductVariant) => workgroupsOf(gpu, narrowed(gpu, problem, variant), pixels, channels);
  const inRows = () => {
    const variant = best();
    if (variant.by === "squares") return { ...variant, by: "threads" } as const;
    return variant.by === "windows" ? variantsOf(gpu, REPERTOIRE).values().next().value! : variant;
  };
  return variantFor(gpu, REPERTOIRE, { f16: gpu.f16, matrix: channelsIn % 8 === 0, tiles }, inRows);
}

/** The kernel for a convolution by `variant`, and the number of its workgroups. */
export function conv3dLaunch(gpu: Gpu, problem: Conv3dProblem, variant: ProductVariant): Launch {
  const { stride, up, replicate, pixels, channels } = problem, narrow = narrowed(gpu, problem, variant);
  return {
    kernel: narrow.by === "threads"
      ? conv3dTiled({ stride, up, replicate, halves: gpu.f16, tile: narrow.tile, format: narrow.format })
      : conv3dMatrix({ stride, up, replicate, tile: narrow.tile, units: gpu.matrixUnits! }),
    workgroups: workgroupsOf(gpu, narrow, pixels, channels),
  };
}

/** The variant with fewer channels per thread or subgroup, so that as few as possible are idle. */
function narrowed(gpu: Gpu, { channels }: Conv3dProblem, variant: ProductVariant): ProductVariant {
  if (variant.by === "threads") return { ...variant, tile: narrowedTile(variant.tile, channels) };
  const { tile } = variant, [rows, columns] = tile.units;
  const width = fittingWidth(channels, tile.subgroups[1] * gpu.matrixUnits!.n, columns, 1);
  return { ...variant, tile: { ...tile, units: [rows, width] } };
}

function narrowedTile(tile: TiledBy["tile"], channels: number): TiledBy["tile"] {
  const [rows, columns] = tile.outputs;
  return { ...tile, outputs: [rows, fittingWidth(channels, tile.threads[1], columns, 4)] };
}

/** Where a single product along the channels is enough, all subgroups share the pixels. */
function narrowedWindow(tile: WindowTile, { n }: MatrixUnits, channels: number): WindowTile {
  const { subgroups: [down, side], units: [rows, columns], across } = tile;
  if (channels <= n && rows % (side * across) === 0) {
    return { ...tile, subgroups: [down * side, 1], units: [rows / side, 1] };
  }
  return { ...tile, units: [rows, fittingWidth(channels, side * n, columns, 1)] };
}
