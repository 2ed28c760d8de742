/**
 * The verdict on a router: how close its clips will be to full attention's. The thresholds were measured on the demo
 * model (docs/quality.md).
 *
 * @module
 */
import type { Trend } from "../log_summary.ts";
import { percent, type Verdict } from "../verdict.ts";

/** The authors' recipe has 100 steps; in a fifth of them, losses are still those of the start. */
const FEWEST_STEPS = 20;
const RECIPE_STEPS = 100;
/** The distillation loss of a router whose clips have 26.5 dB to full attention's, and pass the judge as those do. */
const GOOD_DISTILLATION = 0.0067;
/**
 * Random routes have 18.9 dB, 7.6 dB less: 5.7 times the squared error. Where the loss grows as the clips' error does,
 * a router with this one is no better than those.
 */
const RANDOM_DISTILLATION = 0.038;
/** With more pairs than this there is next to nothing to gain. */
const DENSE = 0.9;

/** The result of training a router. */
export interface RouterFigures {
  readonly steps: number;
  /** The weighted sum of the losses. */
  readonly loss: Trend;
  readonly distillation: Trend;
  /** Whether distillation was part of the loss. */
  readonly distilled: boolean;
  /** Pairs of queries and keys that are multiplied, of full attention's, over all noise levels. */
  readonly density: number;
}

/** Judges a router. */
export function routerVerdict({ steps, loss, distillation, distilled, density }: RouterFigures): Verdict {
  const advice: string[] = [];
  const { last } = distillation;
  if (steps < RECIPE_STEPS) {
    advice.push(`Train longer, as the authors did: --steps ${RECIPE_STEPS} --resume.`);
  }
  if (density > DENSE) {
    advice.push("Raise --regularization-weight: 0.1 made 71 % of the demo model's heads sparse, 0.02 made 23 %.");
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
      : `With a distillation loss of ${GOOD_DISTILLATION} the demo model's clips have 26.5 dB of PSNR to full ` +
        "attention's and show the same.";
    return { grade: density > DENSE ? "fair" : "good", why, advice };
  }
  advice.push("Lower --regularization-weight, so that more heads stay full, or use it with a higher --tau.");
  if (last <= RANDOM_DISTILLATION) {
    const why = `The distillation loss is ${times(last / GOOD_DISTILLATION)} what the demo model's router ends with, ` +
      "whose clips have 26.5 dB of PSNR to full attention's.";
    return { grade: "fair", why, advice };
  }
  const why = `The distillation loss is ${times(last / GOOD_DISTILLATION)} what the demo model's router ends with: ` +
    "expect clips as far from full attention's as those of random routes.";
  return { grade: "poor", why, advice };
}

function times(factor: number): string {
  return `${factor.toPrecision(2)} times`;
}
