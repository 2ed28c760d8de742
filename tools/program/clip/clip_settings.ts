/**
 * The complete settings of a clip.
 *
 * @module
 */
import type { GenerationDefaults } from "../../../model/checkpoint/generation_defaults.ts";
import type { GenerateOptions } from "../../../model/pipeline.ts";
import type { ClipShape } from "../../../model/video/read/read_clip.ts";
import { stepsOf } from "../../../model/schedulers/sigmas.ts";
import { clipOptions, type ClipValues } from "./clip_options.ts";

/** The complete settings of one clip. Defaults are already filled in. */
export type ClipSettings =
  & Required<Pick<GenerateOptions, "prompt" | "width" | "height" | "frames" | "fps" | "steps" | "guidance" | "seed">>
  & Pick<GenerateOptions, "negativePrompt" | "scheduler" | "flowShift" | "sigmas">;

/** What a clip is asked for. */
export interface ClipRequest {
  readonly prompt: string;
  readonly seed: number;
  readonly values: ClipValues;
}

/** What was asked for, over the model's defaults. */
export function clipSettings({ prompt, seed, values }: ClipRequest, defaults: GenerationDefaults): ClipSettings {
  return {
    prompt,
    ...values.negative !== undefined && { negativePrompt: values.negative },
    ...clipShape(values, defaults),
    steps: stepsOf(values.sigmas, values.steps, defaults.steps),
    guidance: values.guidance ?? defaults.guidance,
    seed,
    ...values.scheduler !== undefined && { scheduler: values.scheduler },
    ...values["flow-shift"] !== undefined && { flowShift: values["flow-shift"] },
    ...values.sigmas !== undefined && { sigmas: values.sigmas },
  };
}

/** Size, length and rate of a clip: what was asked for, over the model's defaults. */
export function clipShape({ size, frames, fps }: ClipValues, defaults: GenerationDefaults): ClipShape {
  const { width, height } = size ?? defaults;
  return { width, height, frames: frames ?? defaults.frames, fps: fps ?? defaults.fps };
}

/**
 * The values of a prompt or a setting over general ones. A list of sigmas and a number of steps both determine the
 * number of steps: the more specific one counts.
 */
export function overlay<T extends ClipValues>(general: T, own: T): T {
  const merged = { ...general, ...own };
  if (own.steps === undefined && Array.isArray(own.sigmas)) delete merged.steps;
  if (own.sigmas === undefined && own.steps !== undefined && Array.isArray(general.sigmas)) delete merged.sigmas;
  return merged;
}

/** The size of a clip, as far as it was given. */
export function clipExtent({ size, frames }: ClipValues): Partial<Pick<ClipSettings, "width" | "height" | "frames">> {
  return { ...size, ...frames !== undefined && { frames } };
}

/**
 * The values among others that describe a clip.
 *
 * @throws {TilereelError} if they contradict one another
 */
export function clipValuesOf(values: ClipValues): ClipValues {
  const keys = Object.keys(clipOptions) as (keyof ClipValues)[];
  stepsOf(values.sigmas, values.steps, 0);
  return Object.fromEntries(keys.filter((key) => values[key] !== undefined).map((key) => [key, values[key]]));
}
