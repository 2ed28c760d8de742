import type { Ending } from "./classify.ts";
import { type CaseResult, WatchedCases } from "./watch.ts";

/** The outcome of many cases. */
export interface Tally {
  readonly counts: Readonly<Record<Ending, number>>;
  /** The cases that ended otherwise than they may. */
  readonly found: readonly CaseResult[];
  readonly seconds: number;
}

/**
 * Runs mutated cases of a target.
 *
 * @param options `first`: the number of the first one
 * @param cases to use, if some are open
 */
export async function fuzz(
  target: string,
  options: { readonly cases: number; readonly seed: number; readonly first?: number },
  cases?: WatchedCases,
): Promise<Tally> {
  const start = performance.now(), { first = 0, seed } = options;
  const counts = { read: 0, refused: 0, bug: 0, hang: 0, memory: 0 }, found: CaseResult[] = [];
  await using own = cases ? undefined : await WatchedCases.open();
  for await (const result of (cases ?? own!).run({ target, seed, from: first, to: first + options.cases })) {
    counts[result.ending]++;
    if (result.ending !== "read" && result.ending !== "refused") found.push(result);
  }
  return { counts, found, seconds: (performance.now() - start) / 1000 };
}
