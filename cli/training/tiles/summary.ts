import type { TileTrainingStep } from "../../../model/veda/training_options.ts";
import { type Trend, trendText } from "../log_summary.ts";
import type { TrainingResult } from "../run_training.ts";
import { percent, type Summary, type Verdict } from "../summary.ts";

/** An earlier demo model's scores were trained for 300 steps; averages have forgotten the start after 100. */
const FEWEST_STEPS = 100, USUAL_STEPS = 300;
/**
 * Recall beyond that of tiles picked blindly, (recall − keep) / (1 − keep): trained scores had 0.52 to 0.73 on an earlier
 * demo model, 0.65 in the paper; mean pooling, as untrained, 0.22 and 0.31 with tiles of 128 tokens.
 */
const GOOD_GAIN = 0.5, POOLING_GAIN = 0.3;
/** On an earlier demo model, 256x256, its tiles, keep 0.5 and 0.25: attention in picked tiles, PSNR to full attention. */
const GOOD = { kept: 0.8, psnr: "25 to 27 dB" }, FAIR = { kept: 0.6, psnr: "21 to 22 dB" };

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
 * Judges scores. The thresholds were measured on an earlier demo model (docs/sparse_attention.md).
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
      'Search shapes first, with "tilereel search tiles", and train with --plan: that halved an earlier demo model\'s ' +
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
      why: `${held}: with ${
        percent(GOOD.kept)
      } an earlier demo model's clips had ${GOOD.psnr} of PSNR to full attention's.`,
      advice,
    };
  }
  if (kept.last < GOOD.kept) advice.push(`Keep more than ${keep} of the tiles when you render (--keep).`);
  const grade = kept.last >= FAIR.kept ? "fair" : "poor";
  const why = kept.last >= GOOD.kept
    ? `${held}: enough for clips close to full attention's, but trained scores find more.`
    : `${held}: an earlier demo model's clips had ${GOOD.psnr} of PSNR to full attention's with ${
      percent(GOOD.kept)
    }, ` +
      `${FAIR.psnr} with ${percent(FAIR.kept)}.`;
  return { grade, why, advice };
}
