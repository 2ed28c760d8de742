/** The most mistakes in a name of this length that is still recognised. Short words turn into others too easily. */
function mostMistakes(length: number): number {
  if (length < 3) return 0;
  return length <= 5 ? 1 : length <= 8 ? 2 : 3;
}

/**
 * Returns the end of a sentence, `: did you mean NAME?`, or nothing where no candidate is near. A near candidate begins
 * with what was given, or differs from it by a few letters that are wrong, missing, too many, or swapped.
 */
export function didYouMean(given: string, candidates: readonly string[], show = (name: string) => name): string {
  const match = candidates.find((name) => given.length >= 3 && name.startsWith(given)) ?? nearest(given, candidates);
  return match === undefined ? "" : `: did you mean ${show(match)}?`;
}

function nearest(given: string, candidates: readonly string[]): string | undefined {
  const most = mostMistakes(given.length);
  let best: { readonly name: string; readonly mistakes: number } | undefined;
  for (const name of candidates) {
    // A pasted text may be very long; it is not compared.
    if (Math.abs(name.length - given.length) > most) continue;
    const mistakes = mistakesBetween(given.toLowerCase(), name.toLowerCase());
    if (mistakes <= most && mistakes < (best?.mistakes ?? Infinity)) best = { name, mistakes };
  }
  return best?.name;
}

/** Counts letters to insert, delete, replace, or swap with their neighbour: the optimal string alignment distance. */
export function mistakesBetween(a: string, b: string): number {
  // Rows of the table of distances between the first i letters of a and the first j of b.
  let before: number[] = [], last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = last[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? before[j - 2]! + 1 : Infinity;
      row.push(Math.min(replaced, last[j]! + 1, row[j - 1]! + 1, swapped));
    }
    [before, last] = [last, row];
  }
  return last[b.length]!;
}
