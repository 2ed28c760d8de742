/**
 * The clips that a model samples of a prompts file, to learn from them.
 *
 * @module
 */
import type { GenerationDefaults } from "../../../model/checkpoint/generation_defaults.ts";
import type { SampledClip } from "../../../model/training/data/sampled_clip.ts";
import { sampleSeed } from "../../../model/training/data/sampled_set.ts";
import type { ClipValues } from "./clip_options.ts";
import { clipSettings, overlay } from "./clip_settings.ts";
import { readPrompts } from "./prompts_file.ts";

/** Values for all clips of {@linkcode clipsOfPrompts}. */
export interface ClipsOfPromptsOptions {
  /** The model's defaults. */
  readonly generation: GenerationDefaults;
  /** Lines of the file may say otherwise; the defaults fill the rest. */
  readonly values: ClipValues;
  /** Seed of the training: those of the clips are derived from it, except where a line gives one. */
  readonly seed: number;
}

/**
 * The prompts of a file with their settings. The file's "out" has no effect.
 *
 * @throws {TilereelError} if the file cannot be read or a line is wrong
 */
export async function clipsOfPrompts(
  path: string,
  { generation, values, seed }: ClipsOfPromptsOptions,
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
