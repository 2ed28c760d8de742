import { TilereelError } from "../../gpu/common/errors.ts";
import { checkWritable, writeAtomically } from "../../model/files/output.ts";
import { DEFAULT_KEEP } from "../../model/veda/budget.ts";
import { choosePlan } from "../../model/veda/plan_choice.ts";
import { candidateShapes, searchTiles } from "../../model/veda/tile_search.ts";
import { defaultCapacity } from "../../model/veda/tile_shapes.ts";
import type { VedaFile } from "../../model/veda/veda_file.ts";
import { saveVeda } from "../../model/veda/save_veda.ts";
import { sizesText } from "../../tools/program/clip/vorta_options.ts";
import { defineCommand } from "../../tools/program/command.ts";
import { openLongRun } from "../../tools/program/long_run.ts";
import { openSamplingRuns, planSampling } from "../../tools/program/sampling_options.ts";
import { samplingOptionsGiven } from "../training/next_commands.ts";
import { commandLine, lineOf } from "../../tools/program/command_line.ts";
import { DEFAULTS, options, type SearchValues } from "../training/search/options.ts";
import { searchSummary } from "../training/search/summary.ts";
import { printSummary, withCommands } from "../training/summary.ts";
import { loadTiles } from "../training/tile_options.ts";

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
  const searching = searchTiles({ gpu, runs: open.runs, shapes, keep, looks, onLook, signal });
  const table = await work.unlessStopped(searching);
  if (!table) {
    const sentence = "Stopped before all shapes were tried; nothing was written. Start again with";
    say(withCommands(sentence, [commandLine()]));
    return work.status!;
  }
  const plan = choosePlan(table, mostShapes);
  await writeAtomically(out, (temporary) => saveVeda(temporary, { tileTokens, keep, shapes: plan, ...scores }));
  const next = [lineOf("train", "tiles", ...samplingOptionsGiven(options), "--plan", out)];
  const summary = searchSummary({ table, plan, out, keep, tileTokens });
  printSummary({ ...summary, invitation: "Train scores for these shapes", next }, json, say);
  return 0;
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
