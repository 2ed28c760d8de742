import { Config } from "../checkpoint/json.ts";
import type { StoredFile } from "../files/store.ts";
import type { Preset } from "./presets.ts";
import type { SigmaGrid, Sigmas } from "./sigmas.ts";

/** The schedulers that exist. */
export const SCHEDULER_KINDS = ["unipc", "euler", "lcm", "dmd"] as const;
/** One of {@link SCHEDULER_KINDS}. */
export type SchedulerKind = typeof SCHEDULER_KINDS[number];

/** `scheduler/scheduler_config.json`: a model's scheduler. Settings of the other kind have diffusers' defaults. */
export interface SchedulerConfig {
  readonly kind: SchedulerKind;
  /** The timestep of a sigma of 1. */
  readonly numTrainTimesteps: number;
  /** The flow shift: how much the steps concentrate on high noise. With 1 they are evenly spaced. */
  readonly flowShift: number;
  /** The grid of noise levels that the family samples with. No file of a model names it. */
  readonly sigmas: Sigmas;
  /** The noise levels of a distilled model. */
  readonly trained?: readonly number[];
  /** UniPC: the highest order of a step. */
  readonly solverOrder: 1 | 2;
  /** UniPC: the step function B(h), h for bh1 and exp(h) − 1 for bh2. */
  readonly solverType: "bh1" | "bh2";
  /** UniPC: the steps whose result is not corrected in the step after. */
  readonly disableCorrector: readonly number[];
  /** The class that `model_index.json` names, if it differs from this config's. */
  readonly otherClass?: string;
}

/** The noise levels of a run for which none are given: those of a distilled model only if it has so many. */
export function ownSigmas({ sigmas, trained }: Pick<SchedulerConfig, "sigmas" | "trained">, steps: number): Sigmas {
  return trained?.length === steps ? trained : sigmas;
}

/** The scheduler of a distilled model, where its folder has the config of another. */
export function distilledScheduler(config: SchedulerConfig, { scheduler, flowShift, sigmas }: Preset): SchedulerConfig {
  const { otherClass: _, ...own } = config;
  return { ...own, kind: scheduler, flowShift, trained: sigmas };
}

/** The properties of a clip that its schedule depends on. */
export interface ScheduledClip {
  readonly width: number;
  readonly height: number;
  /** What the user gave in place of the model's own, if anything. */
  readonly scheduler?: SchedulerKind | undefined;
  readonly flowShift?: number | undefined;
}

/** A limit above what models are trained with, which is 1000. */
const MOST_TIMESTEPS = 100_000;

const UNIPC = "UniPCMultistepScheduler";
const EULER = "FlowMatchEulerDiscreteScheduler";

/** For each setting the values that are supported, and what an absent one stands for. */
type Supported = readonly (readonly [key: string, values: readonly unknown[], absent: unknown])[];

/** Values of settings that a family supports in place of those that are supported here: `{ invert_sigmas: [true] }`. */
export type SupportedSettings = Readonly<Record<string, readonly unknown[]>>;

const OF_ALL: Supported = [
  ["use_karras_sigmas", [false], false],
  ["use_exponential_sigmas", [false], false],
  ["use_beta_sigmas", [false], false],
  ["use_dynamic_shifting", [false], false],
  ["shift_terminal", [null], null],
];
const OF_EULER: Supported = [["invert_sigmas", [false], false], ["stochastic_sampling", [false], false]];
// lower_order_final is ignored: up to order 2 it only affects the last step, which can only have order 1.
const OF_UNIPC: Supported = [
  ["prediction_type", ["flow_prediction"], "epsilon"],
  ["use_flow_sigmas", [true], false],
  ["predict_x0", [true], true],
  ["thresholding", [false], false],
  ["solver_p", [null], null],
  ["final_sigmas_type", ["zero"], "zero"],
  ["solver_order", [1, 2], 2],
  ["solver_type", ["bh1", "bh2"], "bh2"],
];

/**
 * Reads `scheduler_config.json` of a UniPC or flow-match Euler scheduler. Its own `_class_name` decides, not the class
 * that `model_index.json` names: Wan 2.1 T2V 14B has UniPC's config under the name of flow-match Euler, from which
 * diffusers makes an Euler scheduler that drops `flow_shift` as unknown and does not shift at all. Its guide then has one
 * build UniPC from that config, which is also what Wan's own program runs.
 *
 * @param sigmas the grid of noise levels that the family samples with
 * @param indexClass the class that `model_index.json` names
 * @param own what the family supports; it makes its levels so that they are met
 * @throws {TilereelError} if it is another scheduler, a value has the wrong type, or is not supported.
 */
export async function readSchedulerConfig(
  file: string | StoredFile,
  sigmas: SigmaGrid,
  indexClass?: string,
  own: SupportedSettings = {},
): Promise<SchedulerConfig> {
  const config = await Config.read(file);
  config.require("_class_name", [UNIPC, EULER], undefined);
  const className = config.value("_class_name"), isEuler = className === EULER;
  for (const [key, values, absent] of [...OF_ALL, ...isEuler ? OF_EULER : OF_UNIPC]) {
    config.require(key, own[key] ?? values, absent);
  }
  return {
    kind: isEuler ? "euler" : "unipc",
    numTrainTimesteps: config.integer("num_train_timesteps", 1000, 1, MOST_TIMESTEPS),
    flowShift: config.number(isEuler ? "shift" : "flow_shift", 1, { positive: true }),
    sigmas,
    solverOrder: isEuler ? 2 : config.integer("solver_order", 2) as 1 | 2,
    solverType: isEuler ? "bh2" : config.string("solver_type", "bh2") as "bh1" | "bh2",
    disableCorrector: isEuler ? [] : config.integers("disable_corrector", [], undefined, 0),
    ...indexClass !== undefined && indexClass !== className && { otherClass: indexClass },
  };
}
