import { quoted, TilereelError } from "../../gpu/common/errors.ts";

/** A grid of levels before the flow shift. */
interface GridOfLevels {
  /** What it is, for the help of an option. */
  readonly meaning: string;
  /** Default: as the scheduler spaces levels itself in diffusers */
  levels?(steps: number, numTrainTimesteps: number): number[];
}

const GRIDS = {
  diffusers: { meaning: "evenly spaced, as in diffusers 0.37 and later" },
  wan: {
    meaning: "as in Wan's own program",
    // σ = 0.999 · (1 − i / N). The largest level is rounded to float32, as there.
    levels: (steps: number, trained: number): number[] =>
      linspace(Math.fround(1 - 1 / trained), 0, steps + 1).slice(0, -1),
  },
  hunyuan: {
    meaning: "as diffusers samples HunyuanVideo",
    levels: (steps: number): number[] => linspace(1, 0, steps + 1).slice(0, -1),
  },
} satisfies Readonly<Record<string, GridOfLevels>>;

/** The name of a grid. */
export type SigmaGrid = keyof typeof GRIDS;

/** A grid, or the noise levels themselves: falling, at most 1, without the 0 behind the last step. */
export type Sigmas = SigmaGrid | readonly number[];

/** The grids. No file of a model says which one it wants: each family names its own (`SchedulerConfig.sigmas`). */
export const SIGMA_GRIDS: Readonly<Record<SigmaGrid, GridOfLevels>> = GRIDS;

/** The names of the grids. */
export const SIGMA_GRID_NAMES = Object.keys(SIGMA_GRIDS) as readonly SigmaGrid[];

/** The levels that a scheduler is given, before the flow shift; undefined where it spaces them itself. */
export function givenLevels(
  sigmas: Sigmas,
  steps: number,
  numTrainTimesteps: number,
): readonly number[] | undefined {
  return typeof sigmas === "string" ? SIGMA_GRIDS[sigmas].levels?.(steps, numTrainTimesteps) : sigmas;
}

/** `count` numbers from `first` to `last`, evenly spaced; the first alone if there is but one. */
export function linspace(first: number, last: number, count: number): number[] {
  const step = count > 1 ? (last - first) / (count - 1) : 0;
  return Array.from({ length: count }, (_, i) => i === count - 1 && count > 1 ? last : first + i * step);
}

/** Moves a noise level `sigma` in 0…1 towards 1: a `shift` above 1 makes the steps dwell on high noise. */
export function flowShift(sigma: number, shift: number): number {
  return shift * sigma / (1 + (shift - 1) * sigma);
}

/**
 * How many steps a clip takes.
 *
 * @param steps as asked for, if it was
 * @param usual where neither `steps` nor a list of levels says it
 * @param what begins the message, as `prompts.jsonl line 3: `
 * @throws {TilereelError} with the option "sigmas", if a list of levels has another length than `steps`
 */
export function stepsOf(sigmas: Sigmas | undefined, steps: number | undefined, usual: number, what = ""): number {
  if (sigmas === undefined || typeof sigmas === "string") return steps ?? usual;
  const { length } = sigmas, counted = (count: number) => `${count} ${count === 1 ? "step" : "steps"}`;
  if (steps === undefined || steps === length) return length;
  throw new TilereelError(
    `${what}${length} sigmas make ${counted(length)}, but ${counted(steps)} ${
      steps === 1 ? "was" : "were"
    } requested: ` +
      `leave out one of the two`,
    { option: "sigmas" },
  );
}

/**
 * @param what names them in the message
 * @throws {TilereelError} if a list is not one of falling levels from 1 to above 0, or a word names no grid
 */
export function checkSigmas(sigmas: Sigmas, what = "sigmas"): void {
  if (typeof sigmas === "string") {
    if (SIGMA_GRID_NAMES.includes(sigmas)) return;
    const names = SIGMA_GRID_NAMES.map((name) => `"${name}"`).join(", ");
    throw new TilereelError(`${what} must be ${names} or a list of numbers, not ${quoted(sigmas)}`);
  }
  const list: readonly unknown[] = Array.isArray(sigmas) ? sigmas : [];
  const wrong = list.findIndex((sigma, i) =>
    typeof sigma !== "number" || !(sigma > 0 && sigma <= 1) || i > 0 && sigma >= (list[i - 1] as number)
  );
  if (list.length > 0 && wrong < 0) return;
  const why = list.length === 0
    ? "there is none"
    : list[wrong] === 0 && wrong === list.length - 1
    ? "the last one is 0, which is added behind the last step without being named: leave it out"
    : `number ${wrong + 1} is ${String(list[wrong])}`;
  throw new TilereelError(
    `${what} must be falling numbers, each at most 1 and above 0, as in 1,0.75,0.5,0.25, but ${why}`,
  );
}
