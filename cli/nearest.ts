/**
 * "Did you mean": the nearest known name to one that was mistyped.
 *
 * @module
 */
import { closestMatch } from "leven";

/** `: did you mean NAME?` to end a sentence with, or nothing when no candidate is near. */
export function didYouMean(given: string, candidates: readonly string[], show = (name: string) => name): string {
  const maxDistance = Math.max(1, Math.floor(given.length / 3)) + 1;
  const match = candidates.find((name) => given.length >= 3 && name.startsWith(given)) ??
    closestMatch(given, candidates, { maxDistance });
  return match === undefined ? "" : `: did you mean ${show(match)}?`;
}
