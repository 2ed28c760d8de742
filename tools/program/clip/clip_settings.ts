import { TilereelError } from "../../../gpu/common/errors.ts";
import type { GenerationDefaults } from "../../../model/checkpoint/generation_defaults.ts";
import { trainedFlowShift } from "../../../model/checkpoint/trained_sizes.ts";
import type { GenerateOptions } from "../../../model/pipeline.ts";
import type { ClipShape } from "../../../model/video/read/read_clip.ts";
import { PRESETS } from "../../../model/schedulers/presets.ts";
import { stepsOf } from "../../../model/schedulers/sigmas.ts";
import { clipOptions, type ClipValues } from "./clip_options.ts";

/** The options that are settings of a clip: a preset stands for others. */
type OwnValues = Omit<ClipValues, "preset">;

/** Options that every clip has a value for. */
const FILLED = ["size", "frames", "fps", "seed", "steps", "guidance"] as const;

/** What `GenerateOptions` and records call an option: `flow-shift` is `flowShift` there. */
type KeyOf<Name extends string> = Name extends "negative" ? "negativePrompt"
  : Name extends `${infer Head}-${infer Tail}` ? `${Head}${Capitalize<KeyOf<Tail>>}`
  : Name;

/** The other options by their keys. */
type ByKey<Values = Omit<OwnValues, typeof FILLED[number]>> = {
  [Name in keyof Values as KeyOf<Name & string>]: Values[Name];
};

/** The complete settings of one clip. Defaults are already filled in. */
export type ClipSettings =
  & Required<Pick<GenerateOptions, "prompt" | "width" | "height" | "frames" | "fps" | "steps" | "guidance" | "seed">>
  & ByKey;

/** The key of an option in `GenerateOptions` and in records. */
function keyOf(name: string): string {
  return name === "negative" ? "negativePrompt" : name.replace(/-./g, (dash) => dash[1]!.toUpperCase());
}

/** The option of a key. */
export function optionName(key: string): string {
  return key === "negativePrompt" ? "negative" : key.replace(/[A-Z]|\d+$/g, (letter) => `-${letter.toLowerCase()}`);
}

/** The seed that asks for a random one. */
export const RANDOM_SEED = -1;

/** The requested settings of a clip. */
export interface ClipRequest {
  readonly prompt: string;
  readonly seed: number;
  readonly values: ClipValues;
}

/** @throws {TilereelError} with the `option`, if there is no prompt */
export function checkPrompt(prompt: string | undefined): string {
  if (prompt?.trim()) return prompt;
  const what = prompt === undefined ? "there is no prompt" : "the prompt is empty";
  throw new TilereelError(`${what}: say what to show, as in "a red circle moving right"`, { option: "prompt" });
}

/** The seed that is given, or a random one. */
export function seedOf({ seed = RANDOM_SEED }: { readonly seed?: number }): number {
  return seed === RANDOM_SEED ? crypto.getRandomValues(new Uint32Array(1))[0]! : seed;
}

/** The values with those of a preset, over which values beside it count. */
function withPreset<T extends ClipValues>(values: T): T {
  const { preset, ...own } = values;
  if (preset === undefined) return values;
  const { sigmas, scheduler, flowShift, guidance } = PRESETS[preset];
  return merged<ClipValues>({ sigmas, scheduler, "flow-shift": flowShift, guidance }, own as ClipValues) as T;
}

/** The requested settings over the model's defaults. */
export function clipSettings({ prompt, seed, values: given }: ClipRequest, defaults: GenerationDefaults): ClipSettings {
  const values = withPreset(given);
  const shape = clipShape(values, defaults);
  const { "flow-shift": flowShift = trainedFlowShift(defaults.trained, shape) } = values;
  const others = Object.entries(clipValuesOf({ ...values, ...flowShift !== undefined && { "flow-shift": flowShift } }))
    .filter(([name]) => !FILLED.includes(name as "size"));
  return {
    prompt,
    ...shape,
    steps: stepsOf(values.sigmas, values.steps, defaults.steps),
    guidance: values.guidance ?? defaults.guidance,
    seed,
    ...Object.fromEntries(others.map(([name, value]) => [keyOf(name), value])) as ByKey,
  };
}

/** Size, length and rate of a clip: the requested ones over the model's defaults. */
export function clipShape({ size, frames, fps }: ClipValues, defaults: GenerationDefaults): ClipShape {
  const { width, height } = size ?? defaults;
  return { width, height, frames: frames ?? defaults.frames, fps: fps ?? defaults.fps };
}

/**
 * The values of a prompt or a setting over general ones. A list of sigmas and a number of steps both determine the
 * number of steps: the more specific one counts.
 */
export function overlay<T extends ClipValues>(general: T, own: T): T {
  return merged(withPreset(general), withPreset(own));
}

function merged<T extends ClipValues>(general: T, own: T): T {
  const merged = { ...general, ...own };
  if (own.steps === undefined && Array.isArray(own.sigmas)) delete merged.steps;
  if (own.sigmas === undefined && own.steps !== undefined && Array.isArray(general.sigmas)) delete merged.sigmas;
  return merged;
}

/**
 * The values among others that describe a clip.
 *
 * @throws {TilereelError} if they contradict one another
 */
export function clipValuesOf(given: ClipValues): ClipValues {
  const values = withPreset(given);
  const keys = Object.keys(clipOptions) as (keyof ClipValues)[];
  stepsOf(values.sigmas, values.steps, 0);
  return Object.fromEntries(keys.filter((key) => values[key] !== undefined).map((key) => [key, values[key]]));
}
