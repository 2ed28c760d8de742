import type { Gpu } from "../gpu.ts";
import type { FamilyChoice } from "./choices.ts";
import { defaultsFor } from "./defaults.ts";
import { FAMILIES } from "./families.ts";
import { familiesToTry, rememberedChoices } from "./tune.ts";

/** A kernel family, and the variant of it that runs. */
export interface FamilyInUse extends Partial<FamilyChoice> {
  readonly family: string;
  readonly variant: string;
  /** What says so: a trial, the shipped defaults, or the family, whose first variant it is. */
  readonly why: "chosen" | "shipped" | "first";
}

/** The kernels that run on a device. */
export interface KernelsInUse {
  /** When a trial chose them, as an ISO date; absent where none did. */
  readonly measured?: string;
  /** The adapters that the shipped defaults are for; absent where there are none for this one. */
  readonly defaults?: string;
  /** Empty where the adapter has no choice of kernels. */
  readonly families: readonly FamilyInUse[];
}

/** Says which kernels a `Gpu` uses where there is a choice, and why. */
export async function kernelsInUse(gpu: Gpu): Promise<KernelsInUse> {
  const remembered = await rememberedChoices(gpu), defaults = defaultsFor(gpu.settings);
  return {
    ...remembered && { measured: remembered.measured },
    ...defaults && { defaults: defaults.for },
    families: familiesToTry(gpu, FAMILIES).map((family) => {
      const { variant, why } = gpu.kernels.reasonFor(family), choice = remembered?.choices[family.name];
      return { family: family.name, variant, why, ...why === "chosen" && choice && { ms: choice.ms } };
    }),
  };
}
