import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { f32 } from "../../gpu/formats/f32.ts";
import type { MatrixFormat } from "../../gpu/formats/format.ts";
import { FORMATS } from "../../gpu/formats/formats.ts";
import { i8 } from "../../gpu/formats/i8.ts";
import { canCastTo } from "../../gpu/ops/cast.ts";
import { bytesOf } from "../../gpu/tensor.ts";
import { type Dtype, WEIGHT_FORMATS } from "../checkpoint/dtype.ts";
import type { TensorInfo } from "../checkpoint/tensor_source.ts";
import type { WeightOptions } from "./weight_options.ts";

/**
 * The values that the user can choose. "auto" casts f32 matrices to f16 where products hold their operands in f16,
 * which changes no product; where products are in int8, it casts as "int8" does. "stored" keeps the formats of the files.
 * "f16" and "bf16" cast all matrices. "int8" casts those that a part names as `PartWeights.quantised`, with a scale for
 * each row, and is "auto" for the others.
 */
export const WEIGHT_DTYPE_CHOICES = ["auto", "stored", "f16", "bf16", "int8"] as const;
/** One of {@link WEIGHT_DTYPE_CHOICES}. */
export type WeightDtypeChoice = (typeof WEIGHT_DTYPE_CHOICES)[number];

/** How a device multiplies, as far as it decides the formats of weights. */
export type Multiplies = Pick<Gpu, "f16" | "int8">;

/** What is known of a matrix beside the format that it is stored in. */
export interface MatrixUse {
  /** Whether its products always hold their operands in f32. Default: false */
  readonly exact?: boolean;
  /** Whether it may be held in int8. Default: false */
  readonly quantised?: boolean;
}

/**
 * The format of a matrix on the GPU.
 *
 * @param stored a dtype of weights
 */
export function matrixFormat(
  { f16, int8 }: Multiplies,
  stored: Dtype,
  choice: WeightDtypeChoice,
  { exact = false, quantised = false }: MatrixUse = {},
): MatrixFormat {
  if (choice === "f16" || choice === "bf16") return FORMATS[choice];
  const format = WEIGHT_FORMATS[stored]!;
  if (choice === "stored") return format;
  if (quantised && !exact && (choice === "int8" || int8)) return i8;
  return format === f32 && f16 && !exact ? FORMATS.f16 : format;
}

/** The format of a matrix to which something is added. Without that, it would be held in `held`. */
export function adjustedFormat(held: MatrixFormat, exact: boolean): MatrixFormat {
  return canCastTo(held) || held === i8 ? held : exact ? f32 : FORMATS.f16;
}

/** Whether a matrix that is held in a format has scales beside it: its own, or those that it was stored with. */
export const hasScales = (held: MatrixFormat, stored: boolean) => held === i8 || stored && !canCastTo(held);

/** @throws {TilereelError} if weights would be held in a format that the device's int8 products do not take */
export function checkWeightDtype({ int8 }: Multiplies, choice: WeightDtypeChoice = "auto"): void {
  if (!int8 || choice === "auto" || choice === "int8") return;
  throw new TilereelError(
    `precision int8 multiplies int8 weights, but the format of weights is ${choice}; choose int8 or auto for it`,
  );
}

/** The formats of tensors in the files and on the GPU, according to the files' headers. */
export interface WeightsOnGpu {
  /** The bytes that they need on the GPU. */
  readonly bytes: number;
  /** The formats in the files, the most frequent first. */
  readonly stored: readonly Dtype[];
  /** The formats on the GPU, the most frequent first. */
  readonly held: readonly string[];
}

/**
 * Examines tensors before they are loaded.
 *
 * @param isExact as in {@link MatrixUse}
 */
export function weightsOnGpu(
  gpu: Multiplies,
  tensors: readonly TensorInfo[],
  { dtype: choice = "auto", adjust, quantised = () => false }: WeightOptions,
  isExact: (name: string) => boolean = () => false,
): WeightsOnGpu {
  const stored = new Map<Dtype, number>(), held = new Map<string, number>();
  let bytes = 0;
  for (const { name, dtype, shape, bytes: size, scale } of tensors) {
    // Vectors and tables are converted to f32; tensors that are no weights are left out.
    const matrix = name.endsWith(".weight") && shape.length > 1 && dtype in WEIGHT_FORMATS;
    const exact = isExact(name), use = { exact, quantised: quantised(name) };
    const loaded = matrix ? matrixFormat(gpu, dtype, choice, use) : f32;
    const as = adjust?.of(name, shape) ? adjustedFormat(loaded, exact) : loaded;
    bytes += bytesOf(shape, as);
    if (hasScales(as, scale !== undefined)) bytes += bytesOf([shape[0]!], f32);
    if (!matrix) continue;
    stored.set(dtype, (stored.get(dtype) ?? 0) + size);
    held.set(as.name, (held.get(as.name) ?? 0) + size);
  }
  const byUse = <T>(counts: Map<T, number>) => [...counts].sort(([, a], [, b]) => b - a).map(([dtype]) => dtype);
  return { bytes, stored: byUse(stored), held: byUse(held) };
}

/**
 * The most bytes that one block needs on the GPU.
 *
 * @param block finds the prefix that the names of a block's tensors share
 */
export function largestBlock(
  gpu: Multiplies,
  tensors: readonly TensorInfo[],
  block: RegExp,
  options: WeightOptions,
  isExact?: (name: string) => boolean,
): number {
  const blocks = Map.groupBy(tensors, ({ name }) => block.exec(name)?.[0]);
  blocks.delete(undefined);
  return Math.max(0, ...[...blocks.values()].map((block) => weightsOnGpu(gpu, block, options, isExact).bytes));
}

/** A description such as "stored as F32, cast to f16 while loading" or "stored as BF16". */
export function castText({ stored, held }: WeightsOnGpu): string {
  const cast = stored.map((dtype) => WEIGHT_FORMATS[dtype]).join() !== held.join();
  return `stored as ${stored.join(" and ")}${cast ? `, cast to ${held.join(" and ")} while loading` : ""}`;
}
