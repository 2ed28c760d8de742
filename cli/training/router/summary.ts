import type { AttentionTask } from "../../../model/attention/method.ts";
import type { Grid } from "../../../model/attention/grid.ts";
import { type Branch, BRANCHES } from "../../../model/vorta/branch.ts";
import { meteredTimesteps } from "../../../model/vorta/density_control.ts";
import { routedAttention, type RoutedAttentionOptions } from "../../../model/vorta/methods.ts";
import type { TrainingRecipe } from "../../../model/vorta/recipe.ts";
import type { VortaSettings } from "../../../model/vorta/settings.ts";
import { branchShares, type RouterTrainingStep } from "../../../model/vorta/training_figures.ts";
import { sizesText } from "../../../tools/program/clip/vorta_options.ts";
import { type Trend, trendText } from "../log_summary.ts";
import type { ShownClip } from "../next_commands.ts";
import type { TrainingResult } from "../run_training.ts";
import { percent, type Summary, type Verdict } from "../summary.ts";

/** The authors' recipe has 100 steps; in a fifth of them, losses are still those of the start. */
const FEWEST_STEPS = 20;
const RECIPE_STEPS = 100;
/**
 * The distillation loss of the demo model's router for 512×512. With one dense step, its clips have 26.7 dB to full
 * attention's. The router for the smaller sizes ended with 0.0033, and lost shapes at 512×512.
 */
const GOOD_DISTILLATION = 0.003;
/**
 * Random routes, as many to each branch, have 16.8 dB, 9.9 dB less: 9.7 times the squared error. Where the loss grows as
 * the clips' error does, a router with this one is no better than those.
 */
const RANDOM_DISTILLATION = 0.029;
/**
 * First steps with full attention with which the demo model's clips of 512×512 lose nothing (docs/quality.md): two of 20
 * steps. Of fewer steps they are too large a share.
 */
const DENSE_STEPS = { steps: 2, of: 20 };
/** With more pairs than this there is next to nothing to gain. */
const DENSE = 0.9;

/** `loss 3.797 (diffusion 0.412, distillation 0.168)  full 31%, core-set 40%, sliding 29%  density 0.52` */
export function stepText({ loss, losses: { diffusion, distillation }, shares, density }: RouterTrainingStep): string {
  const [all, toTarget, toTeacher] = [loss, diffusion, distillation].map((value) => value.toPrecision(3));
  return `loss ${all} (diffusion ${toTarget}, distillation ${toTeacher})  ${sharesText(shares)}  density ${
    density.toFixed(2)
  }`;
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

/** Options with which a clip comes closer to full attention's, if its router's file does not say that. */
export function closerOptions(
  { steps }: Pick<ShownClip, "steps">,
  denseShare = 0,
): Readonly<Record<string, string>> {
  return denseShare > 0 || steps < DENSE_STEPS.of ? {} : { "dense-steps": String(DENSE_STEPS.steps) };
}

/**
 * Sums up a training.
 *
 * @param task clips like those of the training; timesteps are added
 * @param recipe as it was trained
 */
export async function routerSummary(
  { log, steps, means }: TrainingResult<RouterTrainingStep>,
  task: Omit<AttentionTask, "timesteps">,
  options: RoutedAttentionOptions,
  { shift, weights, density: aim }: TrainingRecipe,
): Promise<Omit<Summary, "invitation" | "next">> {
  using routed = await routedAttention(options).prepare({ ...task, timesteps: meteredTimesteps(shift) });
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
    verdict: routerVerdict({ steps, density, aim, distilled: weights.distillation > 0, loss, distillation }),
  };
}

function sharesText(shares: Readonly<Record<Branch, number>>): string {
  const names = { full: "full", coreset: "core-set", sliding: "sliding" };
  return BRANCHES.map((branch) => `${names[branch]} ${Math.round(100 * shares[branch])}%`).join(", ");
}

/**
 * Judges a router. The thresholds were measured on the demo model (docs/sparse_attention.md).
 *
 * @param figures `loss`: the weighted sum; `distilled`: whether distillation was part of it; `density`: the pairs that
 * are multiplied, of full attention's, over all noise levels; `aim`: the density that it was to have, if any
 */
export function routerVerdict(
  { steps, loss, distillation, distilled, density, aim }: {
    steps: number;
    loss: Trend;
    distillation: Trend;
    distilled: boolean;
    density: number;
    aim?: number | undefined;
  },
): Verdict {
  const advice: string[] = [];
  const { last } = distillation;
  if (steps < RECIPE_STEPS) {
    advice.push(`Train longer, as the authors did: --steps ${RECIPE_STEPS} --resume.`);
  }
  if (density > DENSE) {
    advice.push(
      aim === undefined || aim > DENSE
        ? "Aim at fewer pairs: --density 0.4."
        : `It has not come to --density ${aim}: more steps bring it there, and a higher --regularization-weight sooner.`,
    );
  }
  if (steps < FEWEST_STEPS) {
    return { grade: "unknown", why: `${steps} steps are too few to judge the losses.`, advice };
  }
  if (loss.last > loss.first) advice.push("Lower --lr: the loss rose.");
  if (!distilled) {
    const why = "Without a distillation loss nothing tells how close the clips come to full attention's.";
    return { grade: "unknown", why, advice };
  }
  if (last <= GOOD_DISTILLATION) {
    const why = density > DENSE
      ? `It is close to full attention, but as slow: ${percent(density)} of the pairs are still computed.`
      : `With a distillation loss of ${GOOD_DISTILLATION} and one dense step, the demo model's clips have 26.7 dB of PSNR to ` +
        "full attention's.";
    return { grade: density > DENSE ? "fair" : "good", why, advice };
  }
  if (density <= DENSE) {
    const closer = `--dense-steps ${DENSE_STEPS.steps} or a higher --tau`;
    advice.push(`Raise --density, so that more heads stay full, or use it with ${closer}.`);
  }
  if (last <= RANDOM_DISTILLATION) {
    const why =
      `The distillation loss is ${times(last / GOOD_DISTILLATION)} what the demo model's router ended with, whose ` +
      "clips have 26.7 dB of PSNR to full attention's with one dense step.";
    return { grade: "fair", why, advice };
  }
  const why = `The distillation loss is ${times(last / GOOD_DISTILLATION)} what the demo model's router ended with: ` +
    "expect clips as far from full attention's as those of random routes.";
  return { grade: "poor", why, advice };
}

function times(factor: number): string {
  return `${factor.toPrecision(2)} times`;
}
