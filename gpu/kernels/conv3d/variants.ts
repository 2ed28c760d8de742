import type { Gpu } from "../../gpu.ts";
import {
  fittingWidth,
  type Launch,
  type ProductVariant,
  type Repertoire,
  variantFor,
  variantsOf,
  workgroupsOf,
} from "../product/variants.ts";
import type { Conv3dShape } from "./shape.ts";
import { conv3dMatrix, conv3dTiled } from "./tiled.ts";

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
    { subgroups: [4, 2], units: [2, 4], depth: 2, ahead: true },
    { subgroups: [4, 2], units: [2, 4], depth: 2, ahead: false },
    { subgroups: [2, 2], units: [4, 4], depth: 2, ahead: true },
    { subgroups: [4, 2], units: [4, 4], depth: 2, ahead: true },
    { subgroups: [4, 2], units: [2, 4], depth: 2, ahead: true, packed: true },
    { subgroups: [4, 2], units: [4, 4], depth: 2, ahead: true, packed: true },
  ],
  small: {
    tile: { threads: [16, 8], outputs: [4, 8], depth: 16, ahead: false },
    matrix: { subgroups: [2, 2], units: [2, 2], depth: 2, ahead: true },
  },
};

/** The variants for large convolutions on a device, at its precision. */
export const conv3dVariants = (gpu: Gpu) => variantsOf(gpu, REPERTOIRE);

export interface Conv3dProblem extends Conv3dShape {
  /** The number of output pixels, over all frames. */
  readonly pixels: number;
  readonly channelsIn: number;
  readonly channels: number;
}

/** Chooses how to compute a convolution. `best` is the device's fastest of {@link conv3dVariants}. */
export function conv3dVariantFor(gpu: Gpu, problem: Conv3dProblem, best: () => ProductVariant): ProductVariant {
  const { pixels, channelsIn, channels } = problem;
  const tiles = (variant: ProductVariant) => workgroupsOf(gpu, narrowed(gpu, problem, variant), pixels, channels);
  return variantFor(gpu, REPERTOIRE, { f16: gpu.f16, matrix: channelsIn % 8 === 0, tiles }, best);
}

/** The kernel for a convolution by `variant`, and the number of its workgroups. */
export function conv3dLaunch(gpu: Gpu, problem: Conv3dProblem, variant: ProductVariant): Launch {
  const { stride, up, replicate, pixels, channels } = problem, narrow = narrowed(gpu, problem, variant);
  return {
    kernel: narrow.by === "threads"
      ? conv3dTiled({ stride, up, replicate, tile: narrow.tile, format: narrow.format })
      : conv3dMatrix({ stride, up, replicate, tile: narrow.tile, units: gpu.matrixUnits! }),
    workgroups: workgroupsOf(gpu, narrow, pixels, channels),
  };
}

/** The variant with fewer channels per thread or subgroup, so that as few as possible are idle. */
function narrowed(gpu: Gpu, { channels }: Conv3dProblem, variant: ProductVariant): ProductVariant {
  if (variant.by === "threads") {
    const { tile } = variant, [rows, columns] = tile.outputs;
    const width = fittingWidth(channels, tile.threads[1], columns, 4);
    return { ...variant, tile: { ...tile, outputs: [rows, width] } };
  }
  const { tile } = variant, [rows, columns] = tile.units;
  const width = fittingWidth(channels, tile.subgroups[1] * gpu.matrixUnits!.n, columns, 1);
  return { ...variant, tile: { ...tile, units: [rows, width] } };
}
