import { clipOptions } from "../../tools/program/clip/clip_options.ts";
import { lineOf } from "../../tools/program/command_line.ts";
import { trainedModelOptions } from "../../tools/program/model_options.ts";
import type { OptionTable } from "../../tools/program/options.ts";

/** Options that describe a model and where it runs: all commands have them. */
const MODEL = Object.keys(trainedModelOptions);
/** Options that describe a clip, and mean the same for a training. */
const CLIP = Object.keys(clipOptions).filter((name) => !["fps", "seed", "steps"].includes(name));

/** Of this run's options those about model and clips, as they were typed, for another command. */
export function sharedOptions(table: OptionTable, args: readonly string[] = Deno.args): string[] {
  return [
    ...given(table, args, MODEL),
    ...given(table, args, CLIP),
    ...given(table, args, ["sampling-steps"], "steps"),
  ];
}

/**
 * Command lines that compare a sparse attention with full attention, and that render with it.
 *
 * @param given options of the attention, which the two commands call the same
 */
export function nextClips(
  table: OptionTable,
  prompt: string,
  attention: "vorta" | "veda",
  given: Readonly<Record<string, string>>,
): string[] {
  const words = [prompt, ...sharedOptions(table)], entries = Object.entries(given);
  const setting = entries.map(([name, text]) => `${name}=${/\s/.test(text) ? `"${text}"` : text}`);
  return [
    lineOf("compare", ...words, "--setting", "full", "--setting", [attention, ...setting].join(" ")),
    lineOf("generate", ...words, ...entries.flatMap(([name, text]) => [`--${name}`, text])),
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
    // What starts with a dash would be taken for an option.
    return text.startsWith("-") ? [`--${as ?? name}=${text}`] : [`--${as ?? name}`, text];
  });
}
