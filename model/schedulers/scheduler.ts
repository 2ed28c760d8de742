import { quotedValue, TilereelError } from "../../gpu/common/errors.ts";
import { ownSigmas, SCHEDULER_KINDS, type SchedulerConfig, type SchedulerKind } from "./config.ts";
import { createFlowMatchEuler } from "./flow_match_euler.ts";
import { createDmd, createLcm } from "./lcm.ts";
import { checkSigmas, type Sigmas, stepsOf } from "./sigmas.ts";
import { createUniPC } from "./unipc.ts";

/** A tensor times a number. */
export type Term<T> = readonly [coefficient: number, tensor: T];

/**
 * The tensor operations that a scheduler needs: it only combines tensors linearly. So the same code runs on arrays in
 * tests, and on the GPU in the pipeline, where nothing has to be read back.
 */
export interface TensorOps<T> {
  /** The sum of one to four terms, as a new tensor. No tensor occurs in two terms. */
  combine(terms: readonly Term<T>[]): T;
  /** Fresh normal noise of the sample's shape, for schedulers that add noise anew. */
  noise(): T;
  /** Called once for each tensor that is no longer needed. */
  release(tensor: T): void;
}

/** The noise levels of a run with a set number of steps. */
export interface Scheduler {
  readonly kind: SchedulerKind;
  /** The timestep for the model at each step: sigma × 1000; an integer with UniPC and DMD. */
  readonly timesteps: Float32Array<ArrayBuffer>;
  /** The share of noise before each step; the last value, after the last step, is 0. */
  readonly sigmas: Float32Array<ArrayBuffer>;
  /**
   * Starts a run over tensors of the kind that `ops` handles.
   *
   * @param from where another run was, if this one is to go on from there
   * @throws {TilereelError} if what that run kept is not what this scheduler keeps
   */
  start<T>(ops: TensorOps<T>, from?: StepperStart<T>): Stepper<T>;
}

/** Where a run was between two steps. */
export interface StepperStart<T> {
  /** The number of steps that were taken. */
  readonly step: number;
  /** What {@link Stepper.kept} was. The tensors are taken over. */
  readonly kept: Readonly<Record<string, T>>;
}

/** One run, from noise to the finished sample. */
export interface Stepper<T> {
  /**
   * Takes the next step: the model's `velocity` at `sample` gives the sample behind it. Both tensors belong to the
   * stepper from here on and are released by it, at once or in a later step; the tensor returned belongs to the caller
   * until it is handed in as the next step's `sample`. After the last step nothing is kept.
   *
   * @throws {RangeError} if the last step has been taken.
   */
  step(velocity: T, sample: T): T;
  /** The tensors that it keeps for the next step, by name. They stay the stepper's. */
  readonly kept: Readonly<Record<string, T>>;
}

/** The options that the user chooses. */
export interface SchedulerOptions {
  /** The number of denoising steps. If {@link sigmas} is a list, it is the length of that list. */
  readonly steps: number;
  /** The noise levels before the flow shift, to use instead of the model's own grid. */
  readonly sigmas?: Sigmas | undefined;
  /** The scheduler to use instead of the model's own. */
  readonly kind?: SchedulerKind | undefined;
  /** The flow shift to use instead of the model's own. */
  readonly flowShift?: number | undefined;
}

/**
 * Makes the scheduler of a run.
 *
 * @throws {TilereelError} if `steps` is no whole number from 1 on, `flowShift` is not above 0, `sigmas` are none, or as
 * a list are not as many as there are steps
 */
export function createScheduler(config: SchedulerConfig, options: SchedulerOptions): Scheduler {
  const { steps, kind, flowShift, sigmas = ownSigmas(config, options.steps) } = options;
  if (!Number.isSafeInteger(steps) || steps < 1 || steps > config.numTrainTimesteps) {
    throw new TilereelError(
      `${steps} steps are not possible; a whole number from 1 to ${config.numTrainTimesteps} was expected`,
      { option: "steps" },
    );
  }
  const shift = flowShift ?? config.flowShift;
  if (!(Number.isFinite(shift) && shift > 0)) {
    throw new TilereelError(`a flow shift of ${shift} is not possible; a number above 0 was expected`, {
      option: "flow-shift",
    });
  }
  if (kind !== undefined && !SCHEDULER_KINDS.includes(kind)) {
    throw new TilereelError(`scheduler is ${quotedValue(kind)}, but ${SCHEDULER_KINDS.join(" or ")} was expected`, {
      option: "scheduler",
    });
  }
  checkSigmas(sigmas);
  stepsOf(sigmas, steps, steps);
  const create =
    { unipc: createUniPC, euler: createFlowMatchEuler, lcm: createLcm, dmd: createDmd }[kind ?? config.kind];
  const scheduler = create({ ...config, flowShift: shift }, steps, sigmas);
  const still = scheduler.sigmas.findIndex((sigma, i) => i > 0 && sigma >= scheduler.sigmas[i - 1]!);
  if (still < 0) return scheduler;
  throw new TilereelError(
    `sigmas ${still} and ${still + 1} are too close to each other at a flow shift of ${shift}: ` +
      `take fewer steps, or a lower flow shift`,
    { option: "steps" },
  );
}
