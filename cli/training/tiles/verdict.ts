/**
 * The verdict on tile scores. The thresholds were measured on the demo model (docs/quality.md).
 *
 * @module
 */
import type { Trend } from "../log_summary.ts";
import { percent, type Verdict } from "../verdict.ts";

/** What docs/quality.md measures was trained for 300 steps; averages have forgotten the start after 100. */
const FEWEST_STEPS = 100, USUAL_STEPS = 300;
/**
 * Recall beyond that of tiles picked blindly, (recall − keep) / (1 − keep): trained scores had 0.52 to 0.73 on the demo
 * model, 0.65 in the paper; mean pooling, as untrained, 0.22 and 0.31 with tiles of 128 tokens.
 */
const GOOD_GAIN = 0.5, POOLING_GAIN = 0.3;
/**
 * Attention within the picked tiles, and the clips' PSNR to full attention's, of the demo model at 256x256 in its own
 * tiles with keep 0.5 and 0.25.
 */
const GOOD = { kept: 0.8, psnr: "25 to 27 dB" }, FAIR = { kept: 0.6, psnr: "21 to 22 dB" };

/** The result of training scores. */
export interface TilesFigures {
  readonly steps: number;
  /** KL divergence. */
  readonly loss: Trend;
  readonly recall: Trend;
  /** Attention within the tiles that the scores pick. */
  readonly kept: Trend;
  /** Share of tiles that is kept. */
  readonly keep: number;
  /** Whether the heads have shapes that were searched for. */
  readonly planned: boolean;
}

/** Judges scores. */
export function tilesVerdict({ steps, loss, recall, kept, keep, planned }: TilesFigures): Verdict {
  const advice: string[] = [];
  if (steps < USUAL_STEPS) advice.push(`Train longer: --steps ${USUAL_STEPS} --resume, or more.`);
  if (!planned) {
    advice.push(
      'Search shapes first, with "tilereel search tiles", and train with --plan: that halved the demo model\'s ' +
        "error.",
    );
  }
  if (steps < FEWEST_STEPS) {
    return { grade: "unknown", why: `The moving averages of ${steps} steps are still close to the start.`, advice };
  }
  if (loss.last > loss.first) advice.push("Lower --lr: the loss rose.");
  const gain = keep < 1 ? (recall.last - keep) / (1 - keep) : 1;
  const found = `The scores find ${percent(recall.last)} of the tiles that matter most`;
  if (gain < POOLING_GAIN) {
    advice.push("Use more prompts, so that the scores learn what holds for all clips.");
    return { grade: "poor", why: `${found}; the means of tiles, which need no training, find as many.`, advice };
  }
  const held = `${found}, and ${percent(kept.last)} of the attention lies in those they pick`;
  if (kept.last >= GOOD.kept && gain >= GOOD_GAIN) {
    return {
      grade: "good",
      why: `${held}: with ${percent(GOOD.kept)} the demo model's clips have ${GOOD.psnr} of PSNR to full attention's.`,
      advice,
    };
  }
  if (kept.last < GOOD.kept) advice.push(`Keep more than ${keep} of the tiles when you render (--keep).`);
  const grade = kept.last >= FAIR.kept ? "fair" : "poor";
  const why = kept.last >= GOOD.kept
    ? `${held}: enough for clips close to full attention's, but trained scores find more.`
    : `${held}: the demo model's clips have ${GOOD.psnr} of PSNR to full attention's with ${percent(GOOD.kept)}, ` +
      `${FAIR.psnr} with ${percent(FAIR.kept)}.`;
  return { grade, why, advice };
}
