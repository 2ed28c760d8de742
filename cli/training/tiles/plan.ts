import type { Gpu } from "../../../gpu/gpu.ts";
import { product } from "../../../model/attention/grid.ts";
import { validTokens } from "../../../model/attention/layout.ts";
import { blockWork, tileStateSeconds } from "../../../model/estimate/training_time.ts";
import { tileTrainingMemory } from "../../../model/veda/training_memory.ts";
import { sizesText } from "../../../tools/program/clip/vorta_options.ts";
import { openNamedFolder } from "../../../tools/program/model_options.ts";
import type { SamplingPlan } from "../../../tools/program/sampling_options.ts";
import { knownGpu, type TrainingPlan } from "../plan.ts";

/**
 * Plans the training of tile scores.
 *
 * @throws {TilereelError} if it does not fit the GPU's memory
 */
export async function tilesPlan(
  gpu: Gpu,
  { values, clips, grid }: SamplingPlan,
  tileTokens: number,
): Promise<TrainingPlan> {
  const folder = await openNamedFolder(values), [clip] = clips, { width, height, frames, guidance, steps } = clip!;
  using model = await folder.family.open(folder);
  const { weightDtype, weights } = { weightDtype: values["weight-dtype"], weights: values.weights };
  const { place, gpu: bytes } = await tileTrainingMemory(gpu, model, clip!, tileTokens, {
    ...{ weightDtype, weights },
  });
  const known = knownGpu(gpu), { shape } = model, tokens = validTokens(model.layout(clip!));
  const passes = model.passes(guidance).length;
  return {
    lines: [
      `Scores for ${shape.layers} layers of ${shape.heads} heads, tiles of ${tileTokens} tokens; a state is a denoising ` +
      `step of one of ${clips.length} clips, which have ${steps}.`,
      `Clips of ${width}x${height}, ${frames} frames: ${sizesText(grid)} = ${product(grid)} tokens.`,
    ],
    facts: { clips: clips.length, tokens, tileTokens },
    place,
    memory: { gpu: bytes, host: 0 },
    unit: {
      name: "state",
      perStep: 1,
      seconds: known && tileStateSeconds(known, blockWork(model, tokens), passes),
    },
  };
}
