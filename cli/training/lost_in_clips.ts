/**
 * What clips of the demo model with tiles at the limits of the verdicts lost of what full attention's show
 * (docs/sparse_attention.md).
 */
export const LOST = {
  good: "at most 3 of 96 shapes and no motion",
  fair: "2 of 96 shapes and 3 motions",
} as const;
