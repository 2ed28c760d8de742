/**
 * Schedulers walk a sample from noise to a clip, given the model's velocity at every step.
 *
 * All they do to tensors is to combine them linearly, so they know nothing of tensors but that: the same code runs on
 * arrays in tests and on the GPU in the pipeline, where nothing needs to be read back.
 *
 * @module
 */
import { TilereelError } from "../../errors.ts";
import { SCHEDULER_KINDS, type SchedulerConfig, type SchedulerKind } from "./config.ts";
import { createFlowMatchEuler } from "./flow_match_euler.ts";
import { checkSigmas, DEFAULT_SIGMA_GRID, type Sigmas, stepsOf } from "./sigmas.ts";
import { createUniPC } from "./unipc.ts";

/** A tensor times a number. */
export type Term<T> = readonly [coefficient: number, tensor: T];

/** What a scheduler needs of tensors. */
export interface TensorOps<T> {
  /** The sum of one to four terms, as a new tensor. No tensor stands in two of them. */
  combine(terms: readonly Term<T>[]): T;
  /** Told once of each tensor that is no longer needed. */
  release(tensor: T): void;
}

/** The noise levels of a run with a set number of steps. */
export interface Scheduler {
  readonly kind: SchedulerKind;
  /** What the model is told at each step: sigma × 1000, whole numbers with UniPC. */
  readonly timesteps: Float32Array<ArrayBuffer>;
  /** The share of noise before each step and, as its last value, behind the last: 0. */
  readonly sigmas: Float32Array<ArrayBuffer>;
  /** Begins a run over tensors of the kind that `ops` handles. */
  start<T>(ops: TensorOps<T>): Stepper<T>;
}

/** One run, from noise to the finished sample. */
export interface Stepper<T> {
  /**
   * Takes the next step: the model's `velocity` at `sample` gives the sample behind it. Both tensors belong to the
   * stepper from here on and are released by it, at once or in a later step; the tensor returned belongs to the caller
   * until it is handed in as the next step's `sample`.
   *
   * @throws {RangeError} if the last step has been taken.
   */
  step(velocity: T, sample: T): T;
  /** Releases what is kept for the next step: for a run that ends early. After the last step there is nothing left. */
  dispose(): void;
}

/** What the user chooses. */
export interface SchedulerOptions {
  /** How many times the model is asked; as many as there are {@link sigmas}, where these are a list. */
  readonly steps: number;
  /** The noise levels before the flow shift. Default "diffusers" */
  readonly sigmas?: Sigmas | undefined;
  /** In place of the model's own scheduler. */
  readonly kind?: SchedulerKind | undefined;
  /** In place of the model's own flow shift. */
  readonly flowShift?: number | undefined;
}

/**
 * Makes the scheduler of a run.
 *
 * @throws {TilereelError} if `steps` is no whole number from 1 on, `flowShift` is not above 0, `sigmas` are none, or as
 * a list are not as many as there are steps
 */
export function createScheduler(config: SchedulerConfig, options: SchedulerOptions): Scheduler {
  const { steps, kind, flowShift, sigmas = DEFAULT_SIGMA_GRID } = options;
  if (!Number.isSafeInteger(steps) || steps < 1 || steps > config.numTrainTimesteps) {
    throw new TilereelError(
      `${steps} steps cannot be taken; a whole number from 1 to ${config.numTrainTimesteps} was expected`,
    );
  }
  const shift = flowShift ?? config.flowShift;
  if (!(Number.isFinite(shift) && shift > 0)) {
    throw new TilereelError(`a flow shift of ${shift} is not possible; a number above 0 was expected`);
  }
  if (kind !== undefined && !SCHEDULER_KINDS.includes(kind)) {
    throw new TilereelError(`scheduler is ${JSON.stringify(kind)}, but ${SCHEDULER_KINDS.join(" or ")} was expected`);
  }
  checkSigmas(sigmas);
  stepsOf(sigmas, steps, steps);
  const create = { unipc: createUniPC, euler: createFlowMatchEuler }[kind ?? config.kind];
  const scheduler = create({ ...config, flowShift: shift }, steps, sigmas);
  const still = scheduler.sigmas.findIndex((sigma, i) => i > 0 && sigma >= scheduler.sigmas[i - 1]!);
  if (still < 0) return scheduler;
  throw new TilereelError(
    `sigmas ${still} and ${still + 1} are too close to each other at a flow shift of ${shift}: ` +
      `take fewer steps, or a lower flow shift`,
  );
}
