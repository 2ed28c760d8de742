/**
 * The kernels of matrix products, and the choice among them.
 *
 * @module
 */
import type { Gpu } from "../../gpu.ts";
import type { MatrixFormat } from "../../formats/format.ts";
import type { MatrixTile } from "../product/matrix.ts";
import type { Tile, TileFormat } from "../product/tiled.ts";
import {
  type Launch,
  type ProductVariant,
  type Repertoire,
  variantFor,
  variantsOf,
  workgroupsOf,
} from "../product/variants.ts";
import { gemmMatrix } from "./matrix.ts";
import { int8Forms, int8Launch, type Int8Variant, int8VariantFor } from "./int8_variants.ts";
import type { OperandForms } from "./operand_form.ts";
import type { Output } from "./epilogue.ts";
import {
  panelForms,
  panelGroups,
  panelLaunch,
  type PanelVariant,
  panelVariants,
  shortPanels,
} from "./panel_variants.ts";
import { gemmPlain, PLAIN } from "./plain.ts";
import { gemmTiled } from "./tiled.ts";

const F32_TILES: readonly Tile[] = [
  { threads: [16, 16], outputs: [8, 8], depth: 16, ahead: true },
  { threads: [16, 16], outputs: [8, 8], depth: 16, ahead: false },
  { threads: [16, 16], outputs: [8, 8], depth: 8, ahead: true, twice: true },
  { threads: [16, 16], outputs: [8, 8], depth: 16, ahead: true, twice: true },
  { threads: [16, 16], outputs: [8, 4], depth: 16, ahead: true },
  { threads: [8, 16], outputs: [16, 8], depth: 16, ahead: false },
  { threads: [16, 8], outputs: [8, 16], depth: 16, ahead: false },
  { threads: [16, 16], outputs: [16, 8], depth: 16, ahead: false },
];

const F16_TILES: readonly (readonly [Tile, TileFormat])[] = [
  [F32_TILES[0]!, { stretch: 0 }],
  [F32_TILES[1]!, { stretch: 0 }],
  [{ threads: [16, 8], outputs: [8, 8], depth: 32, ahead: true }, { stretch: 32 }],
  [{ threads: [8, 16], outputs: [8, 8], depth: 32, ahead: false }, { stretch: 32 }],
  [{ threads: [16, 8], outputs: [8, 8], depth: 32, ahead: true }, { stretch: 16 }],
  [{ threads: [16, 16], outputs: [8, 4], depth: 32, ahead: true }, { stretch: 16 }],
  [F32_TILES[0]!, "f32"],
  [F32_TILES[1]!, "f32"],
];

const MATRIX_TILES: readonly MatrixTile[] = [
  { subgroups: [2, 2], units: [4, 4], depth: 2, ahead: true },
];

const REPERTOIRE: Repertoire = {
  f32: F32_TILES,
  f16: F16_TILES,
  matrix: MATRIX_TILES,
  small: {
    tile: { threads: [16, 16], outputs: [4, 4], depth: 16, ahead: false },
    matrix: { subgroups: [2, 2], units: [2, 2], depth: 2, ahead: true },
  },
};

/** The variants for large products on a device, at its precision. */
export const gemmVariants = (gpu: Gpu): ReadonlyMap<string, FloatVariant> =>
  new Map<string, FloatVariant>([...panelVariants(gpu, "f16"), ...variantsOf(gpu, REPERTOIRE)]);

/** A product for which a kernel is chosen. */
export interface GemmProblem {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly weights: MatrixFormat;
  readonly transposed: boolean;
  /** Sums are multiplied by scales, so that the numbers of w themselves may be large. */
  readonly scaled: boolean;
  /** What operands may be held in. Weights that are in `i8` are multiplied by inputs in "i8". */
  readonly operands: "f32" | "f16" | "i8";
}

/** How a product of floats is computed on a GPU. */
export type FloatVariant = ProductVariant | PanelVariant;

/** How a product is computed on a GPU. */
export type GemmVariant = FloatVariant | Int8Variant;

/** The device's fastest variants of large products. */
export interface FastestVariants {
  gemm(): FloatVariant;
  int8(): Int8Variant;
}

/** Chooses how to compute a product. Undefined stands for the `plain` kernels. */
export function gemmVariantFor(gpu: Gpu, problem: GemmProblem, fastest: FastestVariants): GemmVariant | undefined {
  const { m, n, k, operands } = problem;
  if (operands === "i8") return int8VariantFor(gpu, problem, fastest.int8);
  // The kernels for GPUs write four outputs at a time.
  if (gpu.kernels.plain || n % 4 !== 0) return undefined;
  const tiles = (variant: FloatVariant) => floatGroups(gpu, variant, m, n), f16 = operands === "f16";
  const matrix = k % 8 === 0;
  const short = f16 && matrix && fastest.gemm().by === "panels" && shortPanels(gpu, "f16", problem);
  return short || variantFor(gpu, REPERTOIRE, { f16, matrix, tiles }, fastest.gemm);
}

const floatGroups = (gpu: Gpu, variant: FloatVariant, m: number, n: number) =>
  variant.by === "panels" ? panelGroups(gpu, variant, m, n) : workgroupsOf(gpu, variant, m, n);

/** The forms in which a variant reads its operands. */
export function formsOf(gpu: Gpu, variant: GemmVariant | undefined): OperandForms {
  if (variant?.by === "panels") return panelForms(gpu, variant);
  return variant?.by === "dot products" ? int8Forms(gpu, variant) : {};
}

/** Whether a variant can write its output in 16 bits. Panels of f16 are written by matrix units alone. */
export const writesHalves = (variant: GemmVariant | undefined) =>
  variant?.by === "panels" || variant?.by === "dot products" && variant.tile !== undefined;

/**
 * The kernel for a product by `variant`. For matrix units, k must be a multiple of 8, and w must not be transposed.
 *
 * @param output its form: f32, or another for variants of which {@link writesHalves} is true
 */
export function gemmLaunch(
  gpu: Gpu,
  problem: GemmProblem,
  variant: GemmVariant | undefined,
  output: Output,
): Launch {
  const { m, n, k, weights, transposed, scaled } = problem;
  if (variant?.by === "panels") return panelLaunch(gpu, problem, variant, output);
  if (variant?.by === "dot products") return int8Launch(problem, variant, output);
  if (!variant) {
    const { rows, cols, threads } = PLAIN;
    return {
      kernel: gemmPlain({ weights, transposed }),
      workgroups: [Math.ceil(n / cols / threads[0]), Math.ceil(m / rows / threads[1]), 1],
    };
  }
  const workgroups = workgroupsOf(gpu, variant, m, n);
  if (variant.by === "threads") {
    // Sums of large numbers could become infinite in f16.
    const format = scaled && variant.format !== "f32" ? { stretch: 0 } as const : variant.format;
    return { kernel: gemmTiled({ tile: variant.tile, format, weights, transposed }), workgroups };
  }
  if (transposed || k % 8 !== 0) {
    throw new Error(`no product of ${k} by matrix units${transposed ? ", transposed" : ""}`);
  }
  return { kernel: gemmMatrix({ tile: variant.tile, units: gpu.matrixUnits!, weights }), workgroups };
}
