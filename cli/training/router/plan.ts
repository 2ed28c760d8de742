import type { Gpu } from "../../../gpu/gpu.ts";
import { product } from "../../../model/attention/grid.ts";
import { validTokens } from "../../../model/attention/layout.ts";
import { blockWork, routerSampleSeconds } from "../../../model/estimate/training_time.ts";
import type { FamilyModel } from "../../../model/family.ts";
import { findClips } from "../../../model/training/data/clip_folder.ts";
import type { ClipSize } from "../../../model/video_size.ts";
import { dryTwin } from "../../../gpu/device/dry.ts";
import { VortaAttention } from "../../../model/vorta/attention.ts";
import type { TrainingRecipe } from "../../../model/vorta/recipe.ts";
import type { VortaSettings } from "../../../model/vorta/settings.ts";
import type { TrainingMemory } from "../../../model/vorta/training_memory.ts";
import { sizesText } from "../../../tools/program/clip/vorta_options.ts";
import { readPrompts } from "../../../tools/program/prompts_file.ts";
import { knownGpu, type TrainingPlan } from "../plan.ts";
import { percent } from "../summary.ts";
import { DEFAULTS, type RouterValues } from "./options.ts";

/** What is known of a training before anything is loaded. */
export interface PlannedRouter {
  readonly gpu: Gpu;
  readonly model: FamilyModel;
  readonly values: RouterValues;
  /** Of all clips, and the largest of these. */
  readonly sizes: readonly ClipSize[];
  readonly size: ClipSize;
  readonly settings: VortaSettings;
  readonly recipe: TrainingRecipe;
  readonly memory: TrainingMemory;
}

/**
 * Plans the training of a router.
 *
 * @throws {TilereelError} if prompts or clips cannot be read
 */
export async function routerPlan(
  { gpu, model, values, sizes, size, settings, recipe, memory }: PlannedRouter,
): Promise<TrainingPlan> {
  const { prompts, data, steps = DEFAULTS.steps } = values, { shape } = model, layout = model.layout(size);
  const clips = (prompts === undefined ? await findClips(data!) : await readPrompts(prompts)).length;
  const { width, height, frames } = size, tokens = validTokens(layout);
  using branches = new VortaAttention(dryTwin(gpu), shape, layout, settings);
  const { full, coreset, sliding } = branches.pairs, densities = { coreset: coreset / full, sliding: sliding / full };
  const known = knownGpu(gpu), work = blockWork(model, tokens);
  return {
    lines: [
      `A router for ${shape.layers} layers of ${shape.heads} heads: ${steps} steps of ${recipe.accumulate} samples of ${clips} ` +
      `clips.`,
      `${
        sizes.length > 1 ? `Clips of ${sizes.length} sizes, at most` : "Clips of"
      } ${width}x${height}, ${frames} frames: ${sizesText(layout.grid)} = ${product(layout.grid)} tokens. Core-set ` +
      `attention computes ${percent(densities.coreset)} of the pairs, sliding-tile attention ${
        percent(densities.sliding)
      }.`,
    ],
    facts: { clips, tokens, densities, samples: steps * recipe.accumulate },
    place: memory.place,
    memory,
    unit: {
      name: "sample",
      perStep: recipe.accumulate,
      seconds: known && routerSampleSeconds(known, work, 1 + densities.coreset + densities.sliding),
    },
  };
}
