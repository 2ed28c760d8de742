/**
 * `tilereel search tiles`: which shape of tile suits each head, for Veda.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import { DEFAULT_KEEP } from "../../model/veda/budget.ts";
import { type TilePlan, uniformPlan } from "../../model/veda/tile_plan.ts";
import {
  bestSingle,
  candidateShapes,
  choosePlan,
  meanError,
  type SearchTable,
  searchTiles,
} from "../../model/veda/tile_search.ts";
import { defaultCapacity } from "../../model/veda/tiling.ts";
import { loadVeda, saveVeda, type VedaFile } from "../../model/veda/veda_file.ts";
import { defineCommand } from "../../tools/program/command.ts";
import { commandLine, openLongRun } from "../../tools/program/long_run.ts";
import { flag, integer, number, type OptionValues, path } from "../../tools/program/options.ts";
import { checkWritable, writeAtomically } from "../../model/files/output.ts";
import { openSamplingRuns, planSampling, samplingOptions } from "../../tools/program/sampling_options.ts";
import { textTable } from "../../tools/program/text_table.ts";
import { lineOf, samplingOptionsGiven } from "../training/next_commands.ts";
import { searchVerdict } from "../training/search/verdict.ts";
import { verdictText } from "../training/verdict.ts";
import { sizesText } from "../../tools/program/clip/vorta_options.ts";

const SEARCH = "Search";
const OUTPUT = "Output";
const DEFAULT_OUT = "out/plan.safetensors";
const DEFAULT_LOOKS = 3, DEFAULT_MOST = 3;

const { prompts, size, frames, seed, ...rest } = samplingOptions;
const options = {
  prompts,
  size,
  frames,
  seed,
  "tile-tokens": integer({
    group: SEARCH,
    value: "N",
    help: "Tokens of a tile.",
    elsewhere: ["tile-size", "block-size"],
    default: "128, or less on small clips",
    min: 1,
  }),
  keep: number({
    group: SEARCH,
    value: "X",
    help: "Share of tiles that are kept while shapes are compared.",
    elsewhere: ["keep-ratio", "density"],
    default: String(DEFAULT_KEEP),
    above: 0,
    max: 1,
  }),
  looks: integer({
    group: SEARCH,
    value: "N",
    help: "Denoising steps of each clip at which all shapes are tried, spread evenly.",
    default: String(DEFAULT_LOOKS),
    min: 1,
  }),
  "most-shapes": integer({
    group: SEARCH,
    value: "N",
    help: "Shapes that the heads of one layer may have among them: each is a run of the kernels.",
    default: String(DEFAULT_MOST),
    min: 1,
    max: 256,
  }),
  ...rest,
  out: path({
    group: OUTPUT,
    short: "o",
    value: "FILE",
    help: "The file to write.",
    elsewhere: ["output"],
    default: DEFAULT_OUT,
  }),
  scorer: path({
    group: OUTPUT,
    value: "FILE",
    help:
      'Take the scores of this file into the result. It is better to train them for the new shapes with "train tiles --plan".',
    default: "none",
  }),
  json: flag({ group: OUTPUT, help: "Print the whole table as JSON." }),
  quiet: flag({ group: OUTPUT, short: "q", help: "Print nothing but errors." }),
};

/** The command `tilereel search tiles`. */
export const command = defineCommand({
  name: "search tiles",
  description:
    "Finds the shape of tile that suits each head: it samples clips, and tries on every head what attention is off by " +
    "when only the tiles are kept that matter most.",
  positionals: "",
  maxPositionals: 0,
  options,
  notes: "Nothing is written before all shapes were tried.",
  examples: [
    {
      line: "tilereel search tiles --prompts prompts.txt --out plan.safetensors",
      does: "A plan for the embedded demo model.",
    },
    {
      line: "tilereel train tiles --prompts prompts.txt --plan plan.safetensors",
      does: "Trains scores for these shapes.",
    },
  ],
  run,
});

type Values = OptionValues<typeof options>;

async function run(values: Values): Promise<number> {
  const { out = DEFAULT_OUT, quiet = false, json = false, keep = DEFAULT_KEEP } = values;
  const sampling = await planSampling(values);
  if (!sampling.oneGrid) {
    throw new TilereelError(
      "shapes can only be compared on clips of one size: give all prompts the same size and number of frames",
    );
  }
  const scorer = values.scorer === undefined ? undefined : await loadVeda(values.scorer);
  const tileTokens = values["tile-tokens"] ?? scorer?.tileTokens ?? defaultCapacity(sampling.grid);
  if (scorer && (!scorer.scorer || scorer.tileTokens !== tileTokens)) {
    throw new TilereelError(
      `${values.scorer} holds no scores for tiles of ${tileTokens} tokens` +
        (scorer.scorer ? `, but for tiles of ${scorer.tileTokens}: leave out --tile-tokens` : ""),
    );
  }
  const shapes = candidateShapes(sampling.grid, tileTokens);
  await checkWritable(out, { asFile: true });
  using work = await openLongRun({
    quiet: quiet || json,
    values,
    stopping: "Stopping after this step; nothing is written.",
  });
  const { gpu, onProgress, say, signal } = work;
  using open = await openSamplingRuns(work, sampling);
  say(`Trying ${shapes.length} ${shapes.length === 1 ? "shape" : "shapes"}: ${shapes.map(sizesText).join(", ")}.`);
  let table: SearchTable;
  try {
    table = await searchTiles({
      gpu,
      runs: open.runs,
      shapes,
      keep,
      looks: values.looks ?? DEFAULT_LOOKS,
      onLook: (done, total) =>
        onProgress({
          stage: "search",
          done,
          total,
          detail: `${shapes.length === 1 ? "1 shape" : `${shapes.length} shapes`} on every head`,
        }),
      signal,
    });
  } catch (error) {
    if (work.status === undefined || error !== signal.reason) throw error;
    say(`Stopped before all shapes were tried; nothing was written. Start again with:\n  ${commandLine(false)}`);
    return work.status;
  }
  const plan = choosePlan(table, values["most-shapes"] ?? DEFAULT_MOST);
  const file: VedaFile = {
    tileTokens,
    keep,
    plan,
    ...scorer?.scorer && { scorer: scorer.scorer },
    ...scorer?.target && { target: scorer.target },
  };
  await writeAtomically(out, (temporary) => saveVeda(temporary, file));
  const single = bestSingle(table);
  const ours = meanError(table, plan), theirs = meanError(table, uniformPlan(single, open.runs));
  const verdict = searchVerdict({ ours, theirs, keep, single: sizesText(single) });
  const next = [lineOf("train", "tiles", ...samplingOptionsGiven(options), "--plan", out)];
  if (json) {
    const found = { ...asJson(table), plan: planAsJson(plan), single, ours, theirs };
    console.log(JSON.stringify({ out, keep, tileTokens, ...found, verdict, next }));
    return 0;
  }
  say(layerTable(plan));
  say([
    `${out}: each head's own shape is off by ${percent(ours)} at keep ${keep}, the best single shape, ` +
    `${sizesText(single)}, by ${percent(theirs)}${theirs > 0 ? `: ${percent(1 - ours / theirs)} less` : ""}.`,
    verdictText(verdict),
    `Train scores for these shapes:\n  ${next}`,
  ].join("\n"));
  return 0;
}

/** A line a layer: how many heads have each shape. */
function layerTable({ shapes, choices }: TilePlan): string {
  return textTable([
    ["layer", ...shapes.map(sizesText)],
    ...choices.map((choice, layer) => [
      String(layer),
      ...shapes.map((_, shape) => String(choice.filter((own) => own === shape).length || "")),
    ]),
  ], 1);
}

function asJson({ shapes, errors, votes }: SearchTable) {
  return {
    shapes,
    errors: errors.map((layer) => layer.map((head) => [...head])),
    votes: votes.map((layer) => layer.map((head) => [...head])),
  };
}

function planAsJson({ shapes, choices }: TilePlan) {
  return { shapes, choices: choices.map((choice) => [...choice]) };
}

function percent(share: number): string {
  return `${(100 * share).toPrecision(3)} %`;
}
