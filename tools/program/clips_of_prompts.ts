import type { GenerationDefaults } from "../../model/checkpoint/generation_defaults.ts";
import type { SampledClip } from "../../model/training/data/sampled_clip.ts";
import { sampleSeed } from "../../model/training/data/sampled_set.ts";
import { largest } from "../../model/video_size.ts";
import type { ClipValues } from "./clip/clip_options.ts";
import { clipSettings, overlay } from "./clip/clip_settings.ts";
import type { PromptEntry } from "./clip/prompts.ts";
import { readPrompts } from "./prompts_file.ts";

/** Options under those of the lines of a file of prompts: `generation`, the model's defaults, under `values`. */
interface Given {
  readonly generation: GenerationDefaults;
  readonly values: ClipValues;
}

/**
 * The clips that a model samples of the prompts in a file, to learn from them. The file's "out" has no effect.
 *
 * @param given for all clips; `seed` is the training's, from which those of the clips are derived, except where a line
 * gives one
 * @throws {TilereelError} if the file cannot be read or a line is wrong
 */
export async function clipsOfPrompts(
  path: string,
  { generation, values, seed }: Given & { readonly seed: number },
): Promise<SampledClip[]> {
  const times = new Map<string, number>();
  return (await readPrompts(path)).map((entry): SampledClip => {
    const { prompt } = entry, given = overlay({ negative: "", ...values }, entry.values);
    const occurrence = times.get(prompt) ?? 0;
    times.set(prompt, occurrence + 1);
    const own = entry.values.seed ?? sampleSeed(seed, prompt, occurrence);
    const { fps: _, ...clip } = clipSettings({ prompt, seed: own, values: given }, generation);
    return { ...clip, negativePrompt: clip.negativePrompt ?? "" };
  });
}

/** What a file of prompts says of its largest clip, and the number of steps of this. */
export type LargestOfPrompts = PromptEntry & { readonly steps: number };

/**
 * What a file of prompts says of its largest clip, or the first of these.
 *
 * @throws {TilereelError} if the file cannot be read or a line is wrong
 */
export async function largestOfPrompts(path: string, { generation, values }: Given): Promise<LargestOfPrompts> {
  const all = (await readPrompts(path)).map((entry) => {
    const { width, height, frames, steps } = clipSettings(
      { ...entry, seed: 0, values: overlay(values, entry.values) },
      generation,
    );
    return { ...entry, width, height, frames, steps };
  });
  return largest(all);
}
