/**
 * The three kinds of self-attention that VORTA routes heads to (§3.1), in the order of the router's scores.
 *
 * @module
 */

/** In the order of the router's scores: a head's route is an index into this. */
export const BRANCHES = ["full", "coreset", "sliding"] as const;
/** One of {@link BRANCHES}: full, core-set or sliding-tile attention. */
export type Branch = (typeof BRANCHES)[number];
