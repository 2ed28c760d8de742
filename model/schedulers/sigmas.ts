/**
 * The noise levels that a schedule visits, before the flow shift.
 *
 * There are two grids of evenly spaced levels. "diffusers" ends at 1 / 1000 and begins at 1, as diffusers has it since
 * 0.37. "wan" is σ = 0.999 · (1 − i / N), as Wan's own program and diffusers 0.33 to 0.36 have it. No file of a model
 * says which one it wants: each family names its own (`SchedulerConfig.sigmas`).
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import { linspace } from "./flow_shift.ts";

/** The evenly spaced grids. */
export const SIGMA_GRIDS = ["diffusers", "wan"] as const;

/** One of the evenly spaced grids. */
export type SigmaGrid = typeof SIGMA_GRIDS[number];

/** A grid, or the noise levels themselves: falling, at most 1, without the 0 behind the last step. */
export type Sigmas = SigmaGrid | readonly number[];

/** `steps` levels of Wan's grid. Its largest level is rounded to float32, as Wan's program does. */
export function wanLevels(steps: number, numTrainTimesteps: number): number[] {
  return linspace(Math.fround(1 - 1 / numTrainTimesteps), 0, steps + 1).slice(0, -1);
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
  if (steps !== undefined && steps !== sigmas.length) {
    throw new TilereelError(
      `${what}${sigmas.length} sigmas make ${sigmas.length} ${sigmas.length === 1 ? "step" : "steps"}, but ${steps} ${
        steps === 1 ? "step was" : "steps were"
      } ` +
        `asked for: leave out one of the two`,
      { option: "sigmas" },
    );
  }
  return sigmas.length;
}

/**
 * @param what names them in the message
 * @throws {TilereelError} if a list is not one of falling levels from 1 to above 0, or a word names no grid
 */
export function checkSigmas(sigmas: Sigmas, what = "sigmas"): void {
  if (typeof sigmas === "string") {
    if (!SIGMA_GRIDS.includes(sigmas)) {
      throw new TilereelError(`${what} must be "diffusers", "wan" or a list of numbers, not ${JSON.stringify(sigmas)}`);
    }
    return;
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
