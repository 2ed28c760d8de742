/**
 * The messages about a router, during its training and afterwards.
 *
 * @module
 */
import type { AttentionTask } from "../../../model/attention/method.ts";
import type { Grid } from "../../../model/attention/grid.ts";
import { type Branch, BRANCHES } from "../../../model/vorta/branch.ts";
import { routedAttention, type RoutedAttentionOptions } from "../../../model/vorta/methods.ts";
import type { VortaSettings } from "../../../model/vorta/settings.ts";
import { branchShares, type RouterTrainingStep } from "../../../model/vorta/training_figures.ts";
import { sizesText } from "../../../tools/program/clip/vorta_options.ts";
import { trendText } from "../log_summary.ts";
import type { TrainingResult } from "../run_training.ts";
import type { Summary } from "../summary.ts";
import { percent } from "../verdict.ts";
import { routerVerdict } from "./verdict.ts";

/** Timesteps that routes are counted over, evenly spread as those of the training are. */
const NOISE_LEVELS = Array.from({ length: 25 }, (_, i) => 980 - 40 * i);

/** `loss 3.797 (diffusion 0.412, distillation 0.168)  full 31%, core-set 40%, sliding 29%` */
export function stepText({ loss, losses: { diffusion, distillation }, shares }: RouterTrainingStep): string {
  const [all, toTarget, toTeacher] = [loss, diffusion, distillation].map((value) => value.toPrecision(3));
  return `loss ${all} (diffusion ${toTarget}, distillation ${toTeacher})  ${sharesText(shares)}`;
}

/** What to note where a branch is no sparser than full attention; undefined where both are. */
export function coarseNote(grid: Grid, { tile, window, bucket }: VortaSettings): string | undefined {
  const of = `these clips are a grid of ${sizesText(grid)} tokens`;
  if (grid.every((tokens, axis) => Math.ceil(tokens / tile[axis]!) <= window[axis]!)) {
    return `${of}: a window of ${sizesText(window)} tiles of ${sizesText(tile)} covers all of it, so sliding-tile ` +
      `attention is full attention; choose a smaller --tile`;
  }
  if (grid.every((tokens, axis) => tokens >= bucket[axis]!)) return undefined;
  return `${of}: no bucket of ${sizesText(bucket)} fits into it, so core-set attention is full attention; choose a ` +
    `smaller --bucket`;
}

/**
 * Sums up a training.
 *
 * @param task clips like those of the training; timesteps are added
 * @param distilled whether distillation was part of the loss
 */
export async function routerSummary(
  { log, steps, means }: TrainingResult<RouterTrainingStep>,
  task: Omit<AttentionTask, "timesteps">,
  options: RoutedAttentionOptions,
  distilled: boolean,
): Promise<Omit<Summary, "invitation" | "next">> {
  using routed = await routedAttention(options).prepare({ ...task, timesteps: NOISE_LEVELS });
  const { density, routes } = routed.report(), { tau } = options;
  const shares = branchShares(routes!.flat().flatMap((heads) => [...heads]));
  const losses = {
    loss: log.trend(({ loss }) => loss),
    diffusion: log.trend(({ losses }) => losses.diffusion),
    distillation: log.trend(({ losses }) => losses.distillation),
  };
  const { loss, diffusion, distillation } = losses;
  return {
    facts: { losses, tau, shares, density },
    lines: [
      `Loss ${trendText(loss)} (diffusion ${trendText(diffusion)}, distillation ${trendText(distillation)}): ${means}.`,
      `Heads at tau ${tau}: ${sharesText(shares)}, so ${percent(density)} of the pairs of full attention are computed.`,
    ],
    verdict: routerVerdict({ steps, density, distilled, loss, distillation }),
  };
}

function sharesText(shares: Readonly<Record<Branch, number>>): string {
  const names = { full: "full", coreset: "core-set", sliding: "sliding" };
  return BRANCHES.map((branch) => `${names[branch]} ${Math.round(100 * shares[branch])}%`).join(", ");
}
