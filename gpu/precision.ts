import { TilereelError } from "./common/errors.ts";
import type { AdapterDescription } from "./device/adapter.ts";

/** The number format of the operands of matrix products. Sums are f32; with f16, up to 32 may be summed in f16 first. */
export type Operands = "f32" | "f16";

/**
 * What the user chooses: a format of {@link Operands}, or "int8". Then the weights of the blocks are int8 with a scale
 * for each output channel, and their products round each token to int8, with a scale of its own. Their sums are exact. All
 * other products have the operands that "auto" chooses.
 */
export type Precision = Operands | "int8";

/** The values that the user can ask for. */
export const PRECISIONS = ["auto", "f32", "f16", "int8"] as const;

/** A precision as a device has it. */
export interface ChosenPrecision {
  /** The operands of products; with int8, of all others. */
  readonly precision: Operands;
  /** Whether products by int8 weights round their other operand to int8, too. */
  readonly int8?: boolean;
}

/** Its name. */
export const precisionName = ({ precision, int8 = false }: ChosenPrecision): Precision => int8 ? "int8" : precision;

/**
 * Resolves "auto": f16 on every GPU that has it, and f32 on software adapters, where f16 is slower. Matrix units
 * multiply f16 many times faster. Without them, attention is still twice as fast in f16 (native Deno, H200).
 *
 * @returns the precision, and the reason for it in a few words
 * @throws {TilereelError} when the adapter cannot have what was asked for
 */
export function choosePrecision(
  asked: Precision | "auto",
  { name, source, software, features, matrixUnits }: Omit<AdapterDescription, "limits">,
): ChosenPrecision & { readonly why: string } {
  const f16 = features.includes("shader-f16");
  if (asked === "f16" && !f16) {
    throw new TilereelError(`${name} has no shader-f16, which precision f16 needs: use f32`);
  }
  if (asked === "int8") {
    const precision = f16 && !software ? "f16" : "f32";
    return { precision, int8: true, why: `requested; all but the weights of blocks are multiplied in ${precision}` };
  }
  if (asked !== "auto") return { precision: asked, why: "requested" };
  if (software) return { precision: "f32", why: "the adapter is software" };
  if (!f16) return { precision: "f32", why: "the adapter has no f16" };
  if (matrixUnits) return { precision: "f16", why: "the adapter's matrix units multiply it" };
  const hint = source === "deno" ? "; matrix units, where a GPU has them, are reached over Dawn" : "";
  return { precision: "f16", why: `the adapter has it${hint}` };
}
