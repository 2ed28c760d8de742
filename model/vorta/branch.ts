/** VORTA's kinds of self-attention (§3.1). A head's route is an index into this, the order of the router's scores. */
export const BRANCHES = ["full", "coreset", "sliding"] as const;
/** One of {@link BRANCHES}: full, core-set or sliding-tile attention. */
export type Branch = (typeof BRANCHES)[number];
