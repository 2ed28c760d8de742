import type { TileTrainingStep } from "../../../model/veda/training_options.ts";
import { type Trend, trendText } from "../log_summary.ts";
import { LOST } from "../lost_in_clips.ts";
import type { TrainingResult } from "../run_training.ts";
import { percent, type Summary, type Verdict } from "../summary.ts";

/** The demo model's scores were trained for 600 steps; averages have forgotten the start after 100. */
const FEWEST_STEPS = 100, USUAL_STEPS = 300;
/**
 * Recall beyond that of tiles picked blindly, (recall − keep) / (1 − keep): trained scores have 0.89 to 0.92 on the demo
 * model, and had 0.65 in the paper; untrained means have 0.85 to 0.88, and had 0.31.
 */
const LEAST_GAIN = 0.5;
/** What training has to add to the recall of untrained scores to be worth a file. */
const LEAST_TRAINED = 0.01;
/** Shares of the attention that lies in picked tiles, and what they mean (docs/sparse_attention.md). */
const GOOD_KEPT = 0.6, FAIR_KEPT = 0.48;
const CLIPS = `with ${percent(GOOD_KEPT)}, the demo model's clips lost ${LOST.good}, with ${
  percent(FAIR_KEPT)
} ${LOST.fair}`;

/** `loss 0.512  recall 61 %  kept 83 % of attention, the oracle 88 %` */
export function stepText({ loss, recall, kept, oracle }: TileTrainingStep): string {
  const [found, held, most] = [recall, kept, oracle].map(percent);
  return `loss ${loss.toPrecision(3)}  recall ${found}  kept ${held} of attention, the oracle ${most}`;
}

/**
 * Sums up a training.
 *
 * @param planned whether the heads have shapes that were searched for
 */
export function tilesSummary(
  { log, steps, means }: TrainingResult<TileTrainingStep>,
  keep: number,
  planned: boolean,
): Omit<Summary, "invitation" | "next"> {
  const loss = log.trend(({ loss }) => loss), recall = log.trend(({ recall }) => recall);
  const kept = log.trend(({ kept }) => kept), oracle = log.trend(({ oracle }) => oracle);
  return {
    facts: { keep, loss, recall, kept, oracle },
    lines: [
      `Loss ${trendText(loss)}, recall ${shareTrendText(recall)}, attention in the picked tiles ${
        shareTrendText(kept)
      } ` +
      `(${percent(oracle.last)} in the oracle's) at keep ${keep}: ${means}.`,
    ],
    verdict: tilesVerdict({ steps, keep, planned, loss, recall, kept }),
  };
}

function shareTrendText({ first, last }: Trend): string {
  return `${percent(first)} → ${percent(last)}`;
}

/**
 * Judges scores. The thresholds were measured on the demo model (docs/sparse_attention.md).
 *
 * @param figures `loss`: the KL divergence; `kept`: attention within the tiles that the scores pick, of which `keep`
 * are kept; `planned`: whether the heads have shapes that were searched for
 */
export function tilesVerdict(
  { steps, loss, recall, kept, keep, planned }: {
    steps: number;
    loss: Trend;
    recall: Trend;
    kept: Trend;
    keep: number;
    planned: boolean;
  },
): Verdict {
  const advice: string[] = [];
  if (steps < USUAL_STEPS) advice.push(`Train longer: --steps ${USUAL_STEPS} --resume, or more.`);
  if (!planned) {
    advice.push(
      'Search shapes first, with "tilereel search tiles", and train with --plan: that took 6 to 24 % of the demo ' +
        "model's error away.",
    );
  }
  if (steps < FEWEST_STEPS) {
    return { grade: "unknown", why: `The moving averages of ${steps} steps are still close to the start.`, advice };
  }
  if (loss.last > loss.first) advice.push("Lower --lr: the loss rose.");
  const gain = keep < 1 ? (recall.last - keep) / (1 - keep) : 1;
  const found = `The scores find ${percent(recall.last)} of the tiles that matter most`;
  if (gain < LEAST_GAIN) {
    advice.push("Use more prompts, so that the scores learn what holds for all clips.");
    const why = `${found}; blind choice finds ${percent(keep)}, the demo model's scores find 90 %.`;
    return { grade: "poor", why, advice };
  }
  if (recall.last - recall.first < LEAST_TRAINED) {
    advice.push("Compare with --tile-scores second-order, which needs no training: these scores hardly find more.");
  }
  if (kept.last < GOOD_KEPT) advice.push(`Keep more than ${keep} of the tiles when you render (--keep).`);
  return {
    grade: kept.last >= GOOD_KEPT ? "good" : kept.last >= FAIR_KEPT ? "fair" : "poor",
    why: `${found}, and ${percent(kept.last)} of the attention lies in those they pick: ${CLIPS}.`,
    advice,
  };
}
