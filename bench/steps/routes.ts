/**
 * Routes without a router: a given number of heads on each of VORTA's branches.
 *
 * @module
 */
import { BRANCHES } from "../../model/vorta/branch.ts";

/** Shares of the heads on each branch, in the order of `BRANCHES`; they add up to 1. */
export type Shares = readonly [full: number, coreset: number, sliding: number];

/** Layers after which a share comes out even, at most. */
const LONGEST_PERIOD = 8;

/** So many heads on full attention, the others on the two sparse branches by halves. */
export function sharesWith(full: number): Shares {
  return [full, (1 - full) / 2, (1 - full) / 2];
}

/**
 * The branch of each head, for the smallest number of layers whose heads can be dealt out in these shares, or as nearly
 * as a few layers can: a layer whose heads do not divide rounds down where the next one rounds up.
 *
 * @returns for each layer the branch of each head, as an index into `BRANCHES`
 */
export function evenRoutes(shares: Shares, heads: number): Uint8Array[] {
  const off = (layers: number) =>
    Math.max(...shares.map((share) => Math.abs(share - Math.round(share * heads * layers) / (heads * layers))));
  let layers = 1;
  for (let more = 2; more <= LONGEST_PERIOD && off(layers) > 1e-9; more++) {
    if (off(more) < off(layers) - 1e-9) layers = more;
  }
  const given = shares.map(() => 0);
  return Array.from({ length: layers }, (_, layer) => {
    const owed = (branch: number) => shares[branch]! * heads * (layer + 1) - given[branch]!;
    const route = Uint8Array.from({ length: heads }, () => {
      const branch = [...BRANCHES.keys()].reduce((most, branch) => owed(branch) > owed(most) ? branch : most);
      given[branch]!++;
      return branch;
    });
    return route.sort();
  });
}

/** What the shares have become. */
export function sharesOf(routes: readonly Uint8Array[]): Shares {
  const all = routes.flatMap((heads) => [...heads]);
  return BRANCHES.map((_, branch) => all.filter((route) => route === branch).length / all.length) as unknown as Shares;
}
