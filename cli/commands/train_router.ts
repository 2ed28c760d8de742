import type { Gpu } from "../../gpu/gpu.ts";
import type { TransformerOptions } from "../../model/family.ts";
import type { Grid } from "../../model/attention/grid.ts";
import { checkTrainable } from "../../model/training/trainable.ts";
import { loadedAs } from "../../model/model_variant.ts";
import { DEFAULT_TAU } from "../../model/vorta/methods.ts";
import { routedModel } from "../../model/vorta/routed_model.ts";
import type { Router } from "../../model/vorta/router.ts";
import { defaultSettings } from "../../model/vorta/settings.ts";
import { trainingMemory } from "../../model/vorta/training_memory.ts";
import { trainRouter } from "../../model/vorta/trainer.ts";
import type { RouterTrainingStep } from "../../model/vorta/training_figures.ts";
import { largest } from "../../model/video_size.ts";
import { openWeightOptions } from "../../model/weights/weight_options.ts";
import { vortaSettings } from "../../tools/program/clip/vorta_options.ts";
import { defineCommand } from "../../tools/program/command.ts";
import { openNamedFolder, variantOf } from "../../tools/program/model_options.ts";
import { nextClips } from "../training/next_commands.ts";
import {
  checkData,
  checkSettingsOfSizes,
  dataIdentity,
  loadOthers,
  openData,
  shownClip,
  sizesOf,
} from "../training/router/data.ts";
import { DEFAULTS, options, recipeOf, type RouterValues } from "../training/router/options.ts";
import { prepareData } from "../training/router/prepare.ts";
import { routerPlan } from "../training/router/plan.ts";
import { closerOptions, coarseNote, routerSummary, stepText } from "../training/router/summary.ts";
import { runTrainingCommand } from "../training/run_training.ts";

/** `tilereel train router`: trains a router for VORTA on a frozen model. */
export const command = defineCommand({
  name: "tilereel train router",
  description:
    "Trains VORTA's routers, which decide for every head and noise level whether full, core-set or sliding-tile " +
    "attention is used. The model does not change. The defaults are the authors' recipe.",
  options,
  notes:
    "The latents of all clips are made first and kept in --cache. Ctrl-C saves the training; --resume continues it.",
  examples: {
    "tilereel train router --prompts prompts.txt": "Trains a router for the embedded demo model.",
    "tilereel train router --data clips --model Wan2.1-T2V-1.3B-Diffusers --size 832x480 --frames 77 --out wan":
      "Trains a router for real Wan weights on your own clips.",
    "tilereel train router --prompts prompts.txt --out wan --resume": "Continues after Ctrl-C.",
    "tilereel train router --prompts prompts.txt --prepare --shard 2/4":
      "Makes a quarter of the latents, as one of four processes.",
  },
  run,
});

async function run(values: RouterValues): Promise<number> {
  checkData(values);
  const folder = await openNamedFolder(values);
  checkTrainable(folder.family);
  if (values.prepare && !values["dry-run"]) return await prepareData(values, folder);
  using model = await folder.family.open(folder);
  const sizes = await sizesOf(values, folder), size = largest(sizes), layout = model.layout(size), { grid } = layout;
  const settingsOf = (grid: Grid) => vortaSettings(values, defaultSettings(grid)), settings = settingsOf(grid);
  const all = sizes.map((size) => settingsOf(model.layout(size).grid));
  checkSettingsOfSizes(values, all);
  const alike = all.every((one) => JSON.stringify(one) === JSON.stringify(all[0]));
  const { tau = DEFAULT_TAU } = values, recipe = recipeOf(values);
  const others = await loadOthers(values["add-to"], model.shape), grids = sizes.map((size) => model.layout(size).grid);
  const memoryOf = (gpu: Gpu, loading: TransformerOptions) =>
    trainingMemory(gpu, model, loading, {
      ...{ size, settings, hidden: recipe.weights.hidden > 0, weights: values.weights ?? "auto" },
    });
  return await runTrainingCommand<RouterTrainingStep>(values, {
    defaults: DEFAULTS,
    kind: "router",
    stopping: "Stopping after this layer; Ctrl-C again stops at once and loses the steps since the last checkpoint.",
    plan: async (gpu) => {
      using weights = await openWeightOptions(gpu, folder.family, loadedAs(await variantOf(values)));
      const memory = await memoryOf(gpu, weights.of("transformer"));
      return await routerPlan({ gpu, model, values, sizes, size, settings, recipe, memory });
    },
    open: async (work, cleanUp) => {
      const { gpu, onProgress } = work, data = await openData(values, work, folder);
      // Read now: the files may be gone at the end.
      const shown = await shownClip(values, folder);
      const weights = cleanUp.use(await openWeightOptions(gpu, folder.family, loadedAs(await variantOf(values))));
      const loading = weights.of("transformer"), { place, keepBytes } = await memoryOf(gpu, loading);
      const transformer = cleanUp.use(await model.loadTransformer(gpu, { ...loading, place, onProgress }));
      const note = coarseNote(grid, settings);
      if (note !== undefined) work.note(note);
      const identity = { ...await dataIdentity(values, folder, data), precision: gpu.precision };
      let router!: Router;
      return {
        figures: stepText,
        train: async (shared, onSample) => {
          using routed = routedModel(gpu, model, transformer, { keepBytes });
          const trained = await trainRouter({
            ...shared,
            model: routed,
            data,
            recipe,
            settings: alike ? settings : settingsOf,
            grids,
            others: others.filter(({ grid }) => !grids.some((own) => String(own) === String(grid))),
            denseShare: values["dense-share"],
            tau,
            identity,
            onSample,
          });
          router = trained.router;
          return trained.step;
        },
        summarize: async (result) => {
          const task = {
            ...{ gpu, shape: model.shape, layout, lengths: [layout.kept] },
            timeEmbedding: (timesteps: readonly number[]) => transformer.timeEmbedding(timesteps),
          };
          const routed = { router, settings: settingsOf, tau, name: result.file };
          const given = values.tau === undefined ? {} : { tau: String(values.tau) };
          return {
            ...await routerSummary(result, task, routed, recipe),
            next: nextClips(
              options,
              shown,
              "vorta",
              { router: result.file, ...given },
              closerOptions(shown, values["dense-share"]),
            ),
          };
        },
      };
    },
  });
}
