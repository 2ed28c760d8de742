/**
 * The verdict on a plan of tile shapes. The thresholds were measured on the demo model at 256x256 with tiles of 32 in
 * searched shapes (docs/quality.md).
 *
 * @module
 */
import { percent, type Verdict } from "../verdict.ts";

/** Error of attention with the oracle's tiles, and the clips' PSNR to full attention's: at keep 0.5, and 0.25. */
const GOOD = { error: 0.04, psnr: "25 to 27 dB" }, FAIR = { error: 0.134, psnr: "21 to 22 dB" };
/** Measured: 14.0 % of error for own shapes and 17.7 % for the best single one, 21 % less. */
const LEAST_GAIN = 0.05;

/** The result of a search. */
export interface SearchFigures {
  /** Mean error of attention with each head's own shape, and with the best shape for all. */
  readonly ours: number;
  readonly theirs: number;
  /** Share of tiles that was kept. */
  readonly keep: number;
  /** The best shape for all, in words. */
  readonly single: string;
}

/** Judges a plan. */
export function searchVerdict({ ours, theirs, keep, single }: SearchFigures): Verdict {
  const advice: string[] = [];
  if (theirs > 0 && 1 - ours / theirs < LEAST_GAIN) {
    advice.push(`One shape for all heads is as good and needs fewer runs of the kernels: --tile-shape ${single}.`);
  }
  const error = `With the best ${percent(keep)} of the tiles, the error of attention is ${percent(ours)}`;
  if (ours <= GOOD.error) {
    return { grade: "good", why: `${error}: the demo model's clips then have ${GOOD.psnr} of PSNR to full's.`, advice };
  }
  advice.push(
    `Search and render with a larger --keep than ${keep}: the demo model's error is 4 % at 0.5 and 13 % at 0.25.`,
  );
  if (ours <= FAIR.error) {
    const why = `${error}: between ${percent(GOOD.error)}, where the demo model's clips have ${GOOD.psnr} of PSNR to ` +
      `full's, and ${percent(FAIR.error)}, where they have ${FAIR.psnr}.`;
    return { grade: "fair", why, advice };
  }
  return {
    grade: "poor",
    why:
      `${error}, more than the ${percent(FAIR.error)} at which the demo model's clips have ${FAIR.psnr} of PSNR to ` +
      "full's.",
    advice,
  };
}
