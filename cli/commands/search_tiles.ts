import { TilereelError } from "../../gpu/common/errors.ts";
import { checkWritable, writeAtomically } from "../../model/files/output.ts";
import { DEFAULT_KEEP } from "../../model/veda/budget.ts";
import { BUDGETS, type BudgetSearch, searchBudgets } from "../../model/veda/budget_search.ts";
import { chooseBudgets, choosePlan } from "../../model/veda/plan_choice.ts";
import { candidateShapes, searchTiles } from "../../model/veda/tile_search.ts";
import { defaultCapacity, type TileShapes } from "../../model/veda/tile_shapes.ts";
import type { VedaFile } from "../../model/veda/veda_file.ts";
import { saveVeda } from "../../model/veda/save_veda.ts";
import { sizesText } from "../../tools/program/clip/vorta_options.ts";
import { defineCommand } from "../../tools/program/command.ts";
import { openLongRun } from "../../tools/program/long_run.ts";
import { openSamplingRuns, planSampling, samplingIdentity } from "../../tools/program/sampling_options.ts";
import { samplingOptionsGiven } from "../training/next_commands.ts";
import { commandLine, lineOf } from "../../tools/program/command_line.ts";
import { DEFAULTS, options, type SearchValues } from "../training/search/options.ts";
import { searchSummary } from "../training/search/summary.ts";
import { percent, printSummary, withCommands } from "../training/summary.ts";
import { loadOthers, loadTiles, withOthers } from "../training/tile_options.ts";

/** `tilereel search tiles`: finds a tile shape for each head, for Veda. */
export const command = defineCommand({
  name: "tilereel search tiles",
  description:
    "Finds the tile shape that suits each head. It samples clips, and measures the error of each head's attention with " +
    "each shape when only the tiles that matter most are kept.",
  options,
  notes: "Nothing is written until all shapes have been tried.",
  examples: {
    "tilereel search tiles --prompts prompts.txt --out plan.safetensors": "Finds a plan for the embedded demo model.",
    "tilereel train tiles --prompts prompts.txt --plan plan.safetensors":
      "Trains scores for the shapes that were found.",
  },
  run,
});

async function run(values: SearchValues): Promise<number> {
  const { out = DEFAULTS.out, quiet = false, json = false, keep = DEFAULT_KEEP, looks = DEFAULTS.looks } = values;
  const { "most-shapes": mostShapes = DEFAULTS.mostShapes } = values;
  const sampling = await planSampling(values);
  if (!sampling.oneGrid) {
    throw new TilereelError(
      "shapes can only be compared on clips of one size: give all prompts the same size and number of frames",
    );
  }
  const { tileTokens, scores } = await scoresOf(values, defaultCapacity(sampling.grid));
  const others = await loadOthers(values["add-to"], sampling.shape);
  const shapes = candidateShapes(sampling.grid, tileTokens);
  const trying = `${shapes.length} ${shapes.length === 1 ? "shape" : "shapes"}`;
  await checkWritable(out, { asFile: true });
  using work = await openLongRun({
    quiet: quiet || json,
    values,
    stopping: "Stopping after this step; nothing will be written.",
  });
  const { gpu, onProgress, say, signal } = work;
  using open = await openSamplingRuns(work, sampling);
  say(`Trying ${trying}: ${shapes.map(sizesText).join(", ")}.`);
  const onLook = (done: number, total: number) =>
    onProgress({ stage: "search", done, total, detail: `${trying} on every head` });
  const onBudgets = (done: number, total: number) =>
    onProgress({ stage: "search", done, total, detail: `${BUDGETS.length} budgets on every head` });
  const search = { gpu, runs: open.runs, keep, looks, signal };
  const searching = searchTiles({ ...search, shapes, onLook });
  const stopped = "Stopped before all was tried; nothing was written. Start again with";
  const table = await work.unlessStopped(searching);
  if (!table) {
    say(withCommands(stopped, [commandLine()]));
    return work.status!;
  }
  const shared = choosePlan(table, mostShapes);
  const budgeted = values.budgets
    ? await work.unlessStopped(withBudgets({ ...search, shapes: shared, onLook: onBudgets }))
    : { shapes: shared };
  if (!budgeted) {
    say(withCommands(stopped, [commandLine()]));
    return work.status!;
  }
  const { shapes: plan, line } = budgeted;
  const file: VedaFile = { tileTokens, keep, grid: sampling.grid, shapes: plan, ...scores };
  const identity = JSON.stringify(await samplingIdentity(sampling));
  await writeAtomically(out, (temporary) => saveVeda(temporary, withOthers(file, others), { options: identity }));
  const next = [lineOf("train", "tiles", ...samplingOptionsGiven(options), "--plan", out)];
  const summary = searchSummary({ table, plan, out, keep, tileTokens, ...line !== undefined && { line } });
  printSummary({ ...summary, invitation: "Train scores for these shapes", next }, json, say);
  return 0;
}

/** A plan with a budget for each head, and a line on what it gains. */
async function withBudgets(search: BudgetSearch): Promise<{ shapes: TileShapes; line?: string }> {
  const { errors } = await searchBudgets(search), budgets = chooseBudgets(errors, BUDGETS);
  const meanOf = (pick: (layer: number, head: number) => number) => {
    const all = errors.flatMap((byHead, layer) => byHead.map((byBudget, head) => byBudget[pick(layer, head)]!));
    return all.reduce((a, b) => a + b) / all.length;
  };
  const own = meanOf((layer, head) => BUDGETS.findIndex((budget) => budget === budgets[layer]![head]));
  const equal = meanOf(() => BUDGETS.indexOf(1));
  return {
    shapes: { ...search.shapes, budgets },
    line:
      `With a budget for each head, the error of attention with the tiles of the most mass is ${percent(own)}, and ` +
      `${percent(equal)} with the same for all.`,
  };
}

/**
 * The tokens of a tile, and the scores that go into the result.
 *
 * @throws {TilereelError} if the file of the scores has none, or for other tiles
 */
async function scoresOf(
  { scorer: file, "tile-tokens": asked }: SearchValues,
  usual: number,
): Promise<{ tileTokens: number; scores: Pick<VedaFile, "scorer" | "target"> }> {
  if (file === undefined) return { tileTokens: asked ?? usual, scores: {} };
  const { tileTokens, scorer, target } = await loadTiles(file, asked);
  if (!scorer) throw new TilereelError(`${file} holds no scores of tiles: make some with "tilereel train tiles"`);
  return { tileTokens, scores: { scorer, ...target && { target } } };
}
