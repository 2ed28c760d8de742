import { greatestCommonDivisor } from "../gpu/common/divisors.ts";
import type { Family } from "./family.ts";
import { HUNYUAN } from "./hunyuan/family.ts";
import type { ClipMultiples } from "./video_size.ts";
import { WAN } from "./wan/family.ts";

const FAMILIES: Family[] = [WAN, HUNYUAN];

/** All known families. A new one is a folder such as `hunyuan/`, and a line here. */
export function families(): readonly Family[] {
  return FAMILIES;
}

/** Adds a family that lies outside the library. */
export function registerFamily(family: Family): void {
  FAMILIES.push(family);
}

/** Their names, as in "Wan 2.1 or HunyuanVideo". */
export function familyNames(): string {
  return FAMILIES.map(({ name }) => name).join(" or ");
}

/**
 * Finds the family of a model, by its transformer's class or, where there is none, by its pipeline's class.
 *
 * @returns undefined if it belongs to no family
 */
export function familyOf(transformerClass: unknown, pipelineClass: unknown): Family | undefined {
  return FAMILIES.find((family) => family.transformerClass === transformerClass) ??
    FAMILIES.find((family) => family.pipelineClass === pipelineClass);
}

/** The common divisors of the sizes of all families. A size that does not fit this fits no model. */
export function commonMultiples(): ClipMultiples {
  const common = (of: keyof ClipMultiples) =>
    FAMILIES.map(({ multiples }) => multiples[of]).reduce((a, b) => greatestCommonDivisor(a, b));
  return { side: common("side"), frames: common("frames") };
}
