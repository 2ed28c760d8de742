import { TilereelError } from "../../gpu/common/errors.ts";
import { DEFAULT_KEEP } from "../../model/veda/budget.ts";
import { trainTiles } from "../../model/veda/tile_trainer.ts";
import type { TileTrainingStep } from "../../model/veda/training_options.ts";
import { defaultCapacity } from "../../model/veda/tile_shapes.ts";
import { defineCommand } from "../../tools/program/command.ts";
import { openSamplingRuns, planSampling, samplingIdentity } from "../../tools/program/sampling_options.ts";
import { nextClips } from "../training/next_commands.ts";
import { runTrainingCommand } from "../training/run_training.ts";
import { loadOthers, withOthers } from "../training/tile_options.ts";
import { DEFAULTS, options, planOf, recipeOf, type TilesValues } from "../training/tiles/options.ts";
import { tilesPlan } from "../training/tiles/plan.ts";
import { stepText, tilesSummary } from "../training/tiles/summary.ts";

/** `tilereel train tiles`: trains Veda's tile scores on a frozen model. */
export const command = defineCommand({
  name: "tilereel train tiles",
  description:
    "Trains Veda's scores, which predict for every head which tiles of a clip matter to which. The model does not " +
    "change, and the scores learn from its full attention while it samples clips.",
  options,
  notes: "Ctrl-C saves the training; --resume continues it.",
  examples: {
    "tilereel train tiles --prompts prompts.txt": "Trains scores for the embedded demo model.",
    "tilereel train tiles --prompts prompts.txt --model Wan2.1-T2V-1.3B-Diffusers --plan plan.safetensors --out wan":
      "Trains scores for real Wan weights with the shapes that were found.",
    "tilereel train tiles --prompts prompts.txt --out wan --resume": "Continues after Ctrl-C.",
  },
  run,
});

async function run(values: TilesValues): Promise<number> {
  const { keep = DEFAULT_KEEP } = values, recipe = recipeOf(values);
  const sampling = await planSampling(values);
  const { shapes, tileTokens = values["tile-tokens"] ?? defaultCapacity(sampling.grid) } = await planOf(values);
  if (values["add-to"] !== undefined && !sampling.oneGrid) {
    throw new TilereelError(
      "--add-to needs clips of one size, for which the new tiles are used: give all prompts the same size and number of " +
        "frames",
      { option: "add-to" },
    );
  }
  const others = await loadOthers(values["add-to"], sampling.shape), { grid } = sampling;
  const file = sampling.oneGrid ? withOthers({ tileTokens, grid }, others) : {};
  return await runTrainingCommand<TileTrainingStep>(values, {
    defaults: DEFAULTS,
    kind: "tiles",
    stopping: "Stopping after this step; Ctrl-C again stops at once and loses the steps since the last checkpoint.",
    plan: (gpu) => tilesPlan(gpu, sampling, tileTokens),
    open: async (work, cleanUp) => {
      const { gpu, onProgress } = work, identity = { ...await samplingIdentity(sampling), precision: gpu.precision };
      const { runs } = cleanUp.use(await openSamplingRuns(work, sampling));
      return {
        figures: stepText,
        train: (shared) =>
          trainTiles({
            ...{ ...shared, gpu, runs, recipe, tileTokens, ...shapes && { shapes }, keep, identity, ...file },
            onReplay: (done, total) => onProgress({ stage: "sample again", done, total }),
          }),
        summarize: (result) => {
          const given = { tiles: result.file, ...values.keep !== undefined && { keep: String(keep) } };
          const next = nextClips(options, sampling.largest, "veda", given);
          return Promise.resolve({ ...tilesSummary(result, keep, shapes !== undefined), next });
        },
      };
    },
  });
}
