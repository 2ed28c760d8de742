import { clipOptions, type ClipValues } from "../../tools/program/clip/clip_options.ts";
import { lineOf } from "../../tools/program/command_line.ts";
import { trainedModelOptions } from "../../tools/program/model_options.ts";
import type { OptionTable } from "../../tools/program/options.ts";

/** Options that describe a model and where it runs: all commands have them. */
const MODEL = Object.keys(trainedModelOptions);
/** Options that describe a clip, and mean the same for a training. */
const CLIP = Object.keys(clipOptions).filter((name) => !["fps", "seed", "steps"].includes(name));

/** A clip to render next. */
export interface ShownClip {
  readonly prompt: string;
  /** Options of its own, over those of the run. */
  readonly values?: ClipValues;
  /** Denoising steps. */
  readonly steps: number;
}

/** Options and their texts. */
type Texts = Readonly<Record<string, string>>;

/**
 * Of this run's options those about model and clips, as they were typed, for another command.
 *
 * @param own options of a clip, which come before them
 */
export function sharedOptions(
  table: OptionTable,
  args: readonly string[] = Deno.args,
  { steps, ...own }: ClipValues = {},
): string[] {
  return [
    ...given(table, args, MODEL),
    ...CLIP.flatMap((name) => {
      const value = own[name as keyof typeof own];
      return value === undefined ? given(table, args, [name]) : word(name, textOf(value));
    }),
    ...steps === undefined ? given(table, args, ["sampling-steps"], "steps") : word("steps", String(steps)),
  ];
}

/**
 * Command lines that compare a sparse attention with full attention, and that render with it.
 *
 * @param given options of the attention, which the two commands call the same
 * @param closer more of them, with which clips are closer to full attention's: compared beside those without them
 */
export function nextClips(
  table: OptionTable,
  { prompt, values }: ShownClip,
  attention: "vorta" | "veda",
  given: Texts,
  closer: Texts = {},
): string[] {
  const words = [prompt, ...sharedOptions(table, Deno.args, values)], all = { ...given, ...closer };
  const settings = [given, ...Object.keys(closer).length > 0 ? [all] : []].map((texts) =>
    [
      attention,
      ...Object.entries(texts).map(([name, text]) => `${name}=${/\s/.test(text) ? `"${text}"` : text}`),
    ].join(" ")
  );
  return [
    lineOf("compare", ...words, ...["full", ...settings].flatMap((setting) => ["--setting", setting])),
    lineOf("generate", ...words, ...Object.entries(all).flatMap(([name, text]) => [`--${name}`, text])),
  ];
}

/** As {@linkcode sharedOptions}, for a command that samples clips as this one does. */
export function samplingOptionsGiven(table: OptionTable, args: readonly string[] = Deno.args): string[] {
  return given(table, args, ["prompts", ...MODEL, ...CLIP, "sampling-steps", "seed"]);
}

/** Names of options and the texts that were given for them; of an option that was given twice the last. */
function given(table: OptionTable, args: readonly string[], names: readonly string[], as?: string): string[] {
  return names.flatMap((name) => {
    const option = table[name];
    if (option === undefined) return [];
    const spellings = [`--${name}`, ...option.short ? [`-${option.short}`] : []];
    const texts = args.flatMap((arg, i) => {
      if (spellings.includes(arg) && args[i + 1] !== undefined) return [args[i + 1]!];
      const start = spellings.map((spelling) => `${spelling}=`).find((start) => arg.startsWith(start));
      return start === undefined ? [] : [arg.slice(start.length)];
    });
    const text = texts.at(-1);
    if (text === undefined) return [];
    return word(as ?? name, text);
  });
}

/** An option and its text. What starts with a dash would be taken for an option. */
function word(name: string, text: string): string[] {
  return text.startsWith("-") ? [`--${name}=${text}`] : [`--${name}`, text];
}

/** A value as it is typed. */
function textOf(value: NonNullable<ClipValues[keyof ClipValues]>): string {
  return typeof value === "object" && "width" in value ? `${value.width}x${value.height}` : String(value);
}
