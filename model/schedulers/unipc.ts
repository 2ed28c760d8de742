/**
 * UniPC ("UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models", arXiv 2302.04867) for
 * flow matching, as diffusers' `UniPCMultistepScheduler` with `flow_prediction`: predicts x₀, orders 1 and 2.
 *
 * Every step turns the velocity into a prediction of x₀, with it corrects the sample that the step before predicted
 * (UniC), and predicts the next one (UniP). The noise levels are written as λ = log α − log σ with α = 1 − σ, over
 * which the solution is exponential.
 *
 * @module
 */
import type { SchedulerConfig } from "./config.ts";
import { checkKept } from "./kept.ts";
import type { Scheduler, Stepper, StepperStart, TensorOps, Term } from "./scheduler.ts";
import { flowShift, givenLevels, linspace, type Sigmas } from "./sigmas.ts";

/** λ is infinite at a sigma of 1, so the first sigma stays this far below. */
const SIGMA_MARGIN = 1e-6;

/** Makes the scheduler for `steps` steps. The flow shift applies to a list of sigmas too, as in diffusers. */
export function createUniPC(config: SchedulerConfig, steps: number, sigmas: Sigmas): Scheduler {
  const { numTrainTimesteps, flowShift: shift } = config;
  const unshifted = givenLevels(sigmas, steps, numTrainTimesteps) ??
    linspace(1, 1 / numTrainTimesteps, steps + 1).slice(0, -1);
  const levels = unshifted.map((sigma) => flowShift(sigma, shift));
  if (Math.abs(levels[0]! - 1) < SIGMA_MARGIN) levels[0]! -= SIGMA_MARGIN;
  const visited = Float32Array.of(...levels, 0);
  const timesteps = Float32Array.from(levels, (sigma) => Math.trunc(sigma * numTrainTimesteps));
  return {
    kind: "unipc",
    timesteps,
    sigmas: visited,
    start: (ops, from) => new UniPCStepper(config, visited, ops, from),
  };
}

/** Names of what is kept from one step to the next: the start of the step, and predictions, newest first. */
const SAMPLE = "sample", PREDICTIONS = ["prediction", "prediction before"] as const;

class UniPCStepper<T> implements Stepper<T> {
  #index = 0;
  /** Predictions of x₀ at previous steps, newest first; at most as many as the order needs. */
  #predictions: T[] = [];
  /** The start of the previous step, corrected, and its order. */
  #last: { readonly sample: T; readonly order: 1 | 2 } | undefined;

  constructor(
    private readonly config: SchedulerConfig,
    private readonly sigmas: Float32Array,
    private readonly ops: TensorOps<T>,
    from?: StepperStart<T>,
  ) {
    if (!from) return;
    const { step, kept } = from, isOver = step === sigmas.length - 1;
    const predictions = PREDICTIONS.slice(0, isOver ? 0 : Math.min(step, config.solverOrder));
    checkKept(kept, predictions.length > 0 ? [SAMPLE, ...predictions] : []);
    this.#index = step;
    this.#predictions = predictions.map((name) => kept[name]!);
    if (predictions.length > 0) this.#last = { sample: kept[SAMPLE]!, order: this.#orderOf(step - 1) };
  }

  get kept(): Readonly<Record<string, T>> {
    if (!this.#last) return {};
    return {
      [SAMPLE]: this.#last.sample,
      ...Object.fromEntries(this.#predictions.map((prediction, i) => [PREDICTIONS[i], prediction])),
    };
  }

  step(velocity: T, sample: T): T {
    const { ops, sigmas, config } = this, index = this.#index, steps = sigmas.length - 1;
    if (index >= steps) throw new RangeError(`all ${steps} steps have been taken`);

    const prediction = ops.combine([[1, sample], [-sigmas[index]!, velocity]]);
    ops.release(velocity);
    const corrected = this.#correct(prediction, sample);

    this.#predictions.unshift(prediction);
    if (this.#predictions.length > config.solverOrder) ops.release(this.#predictions.pop()!);
    const order = this.#orderOf(index);
    const next = this.#update(index, order, corrected);
    this.#last = { sample: corrected, order };
    this.#index++;
    if (this.#index === steps) this.#end();
    return next;
  }

  /** The order of a step, whose prediction is there. */
  #orderOf(index: number): 1 | 2 {
    // The last step consists of the prediction alone; a slope would be multiplied by an infinite step in λ.
    return this.#predictions.length === 2 && index < this.sigmas.length - 2 ? 2 : 1;
  }

  /** Releases what is kept for the next step. */
  #end(): void {
    if (this.#last) this.ops.release(this.#last.sample);
    for (const prediction of this.#predictions) this.ops.release(prediction);
    this.#last = undefined;
    this.#predictions = [];
  }

  /** Repeats the previous step with the prediction after it. Releases tensors that are no longer needed. */
  #correct(prediction: T, sample: T): T {
    const last = this.#last;
    if (!last) return sample;
    this.#last = undefined;
    if (this.config.disableCorrector.includes(this.#index - 1)) {
      this.ops.release(last.sample);
      return sample;
    }
    const corrected = this.#update(this.#index - 1, last.order, last.sample, prediction);
    this.ops.release(last.sample);
    this.ops.release(sample);
    return corrected;
  }

  /** Takes the step `index`, or repeats it with the prediction after it. */
  #update(index: number, order: 1 | 2, sample: T, nextPrediction?: T): T {
    const { ops, sigmas, config: { solverType } } = this, predictions = this.#predictions.slice(0, order);
    const levels = { fromSigma: sigmas[index]!, toSigma: sigmas[index + 1]!, previousSigma: sigmas[index - 1] };
    return ops.combine(updateTerms({ ...levels, solverType, order, sample, predictions, nextPrediction }));
  }
}

/** The noise levels at the start and the end of a step, and the level before, with the step's tensors. */
interface Update<T> {
  readonly solverType: "bh1" | "bh2";
  readonly order: 1 | 2;
  readonly fromSigma: number;
  readonly toSigma: number;
  readonly previousSigma: number | undefined;
  readonly sample: T;
  /** One per order, newest first. */
  readonly predictions: readonly T[];
  /** For a correction: the prediction after the step. */
  readonly nextPrediction: T | undefined;
}

/**
 * The step as a linear combination. In the paper's notation, with m the predictions, h the step in λ and
 * D₁ = (m₋₁ − m₀) / r the slope between predictions, it is
 *
 *   σ_to/σ_from · x − α_to · (e⁻ʰ − 1) · m₀ − α_to · B(h) · (ρ₁ · D₁ + ρ₂ · (m₊₁ − m₀)),
 *
 * with m₊₁ only when correcting.
 */
function updateTerms<T>(update: Update<T>): Term<T>[] {
  const { sample, predictions, nextPrediction, order, fromSigma, toSigma, previousSigma } = update;
  const alpha = 1 - toSigma;
  const h = logSnr(toSigma) - logSnr(fromSigma);
  const expm1 = Math.expm1(-h);
  const stepFunction = update.solverType === "bh1" ? -h : expm1;

  let newest = -alpha * expm1;
  const terms: Term<T>[] = [[toSigma / fromSigma, sample]];
  const slope = (tensor: T, weight: number) => {
    const coefficient = -alpha * stepFunction * weight;
    terms.push([coefficient, tensor]);
    newest -= coefficient;
  };
  const correcting = nextPrediction !== undefined;
  if (order === 2) {
    const r = (logSnr(previousSigma!) - logSnr(fromSigma)) / h;
    const rho = correcting ? correctorWeights(h, r, stepFunction) : { previous: 0.5, next: 0 };
    slope(predictions[1]!, rho.previous / r);
    if (correcting) slope(nextPrediction, rho.next);
  } else if (correcting) {
    slope(nextPrediction, 0.5);
  }
  terms.push([newest, predictions[0]!]);
  return terms;
}

/** ρ₁ and ρ₂ of a corrector of order 2: they make it exact where the predictions are quadratic in λ. */
function correctorWeights(h: number, r: number, stepFunction: number): { previous: number; next: number } {
  const phi1 = Math.expm1(-h) / -h - 1;
  const phi2 = phi1 / -h - 0.5;
  const first = phi1 / stepFunction;
  const second = 2 * phi2 / stepFunction;
  const previous = (first - second) / (1 - r);
  return { previous, next: first - previous };
}

/** λ of a noise level: infinite at 0. In float32, since that is what the references were made with. */
function logSnr(sigma: number): number {
  return Math.fround(Math.fround(Math.log(1 - sigma)) - Math.fround(Math.log(sigma)));
}
