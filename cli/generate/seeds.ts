/**
 * The seeds of clips: given, random, and those after the first of several.
 *
 * @module
 */
import { LARGEST_SEED } from "../../model/noise.ts";

/** The seed that asks for a random one. */
export const RANDOM_SEED = -1;

/** The seed that is given, or a random one. */
export function seedOf({ seed = RANDOM_SEED }: { readonly seed?: number }): number {
  return seed === RANDOM_SEED ? crypto.getRandomValues(new Uint32Array(1))[0]! : seed;
}

/** As many seeds as there are clips, each higher by 1 than the one before. */
export function seedsFrom(first: number, { count = 1 }: { readonly count?: number }): number[] {
  return Array.from({ length: count }, (_, i) => (first + i) % (LARGEST_SEED + 1));
}
