/**
 * The messages about a tile scorer, during its training and afterwards.
 *
 * @module
 */
import type { TileTrainingStep } from "../../../model/veda/training_options.ts";
import { type Trend, trendText } from "../log_summary.ts";
import type { TrainingResult } from "../run_training.ts";
import type { Summary } from "../summary.ts";
import { percent } from "../verdict.ts";
import { tilesVerdict } from "./verdict.ts";

/** `KL 0.512  recall 61 %  kept 83 % of attention, the oracle 88 %` */
export function stepText({ loss, recall, kept, oracle }: TileTrainingStep): string {
  const [found, held, most] = [recall, kept, oracle].map(percent);
  return `KL ${loss.toPrecision(3)}  recall ${found}  kept ${held} of attention, the oracle ${most}`;
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
      `KL ${trendText(loss)}, recall ${shareTrendText(recall)}, attention in the picked tiles ${
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
