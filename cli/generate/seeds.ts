/**
 * The seeds of clips: given, random, and those after the first of several.
 *
 * @module
 */
import { LARGEST_SEED } from "../../model/noise.ts";

/** The seed that asks for a random one. */
export const RANDOM_SEED = -1;

/** The seed; undefined if it is not given or is to be random. */
export function givenSeed({ seed }: { readonly seed?: number }): number | undefined {
  return seed === RANDOM_SEED ? undefined : seed;
}

/** As many seeds as there are clips, each higher by 1 than the one before. */
export function seedsFrom(first: number, { count = 1 }: { readonly count?: number }): number[] {
  return Array.from({ length: count }, (_, i) => (first + i) % (LARGEST_SEED + 1));
}

/** Any seed. */
export function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0]!;
}
