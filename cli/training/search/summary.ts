import { type TileShapes, uniformShapes } from "../../../model/veda/tile_shapes.ts";
import { bestSingle, meanError, type SearchTable } from "../../../model/veda/plan_choice.ts";
import { sizesText } from "../../../tools/program/clip/vorta_options.ts";
import { textTable } from "../../../tools/program/text_table.ts";
import { LOST } from "../lost_in_clips.ts";
import { percent, type Summary, type Verdict } from "../summary.ts";

/** Errors of attention with the oracle's tiles, and what they mean (docs/sparse_attention.md). */
const GOOD_ERROR = 0.12, FAIR_ERROR = 0.18;
const CLIPS = `with up to ${percent(GOOD_ERROR)}, the demo model's clips lost ${LOST.good}, with ${
  percent(FAIR_ERROR)
} ${LOST.fair}`;
/** Measured on the demo model: own shapes have 6 to 24 % less error than the best single one. */
const LEAST_GAIN = 0.05;

/** Sums up a search whose plan was written to the file `out`. */
export function searchSummary(
  { table, plan, out, keep, tileTokens, line }: {
    table: SearchTable;
    plan: TileShapes;
    out: string;
    keep: number;
    tileTokens: number;
    /** On budgets. */
    line?: string;
  },
): Omit<Summary, "invitation" | "next"> {
  const { shapes, errors, votes } = table, single = bestSingle(table);
  const size = { layers: errors.length, heads: errors[0]!.length };
  const ours = meanError(table, plan), theirs = meanError(table, uniformShapes(single, size));
  const less = theirs > 0 ? ` (${percent(1 - ours / theirs)} less)` : "";
  const lists = (byLayer: readonly (readonly Iterable<number>[])[]) =>
    byLayer.map((heads) => heads.map((numbers) => [...numbers]));
  return {
    facts: {
      ...{ out, keep, tileTokens, shapes, errors: lists(errors), votes: lists(votes) },
      plan: {
        shapes: plan.shapes,
        choices: plan.choices.map((choice) => [...choice]),
        ...plan.budgets && { budgets: plan.budgets.map((budgets) => [...budgets]) },
      },
      ...{ single, ours, theirs },
    },
    lines: [
      layerTable(plan),
      `${out}: at keep ${keep} the error of attention is ${percent(ours)} with each head's own shape${less}, and ` +
      `${percent(theirs)} with the best single shape, ${sizesText(single)}.`,
      ...line === undefined ? [] : [line],
    ],
    verdict: searchVerdict({ ours, theirs, keep, single: sizesText(single) }),
  };
}

/** A line a layer: how many heads have each shape. */
function layerTable({ shapes, choices }: TileShapes): string {
  return textTable([
    ["layer", ...shapes.map(sizesText)],
    ...choices.map((choice, layer) => [
      String(layer),
      ...shapes.map((_, shape) => String(choice.filter((own) => own === shape).length || "")),
    ]),
  ], 1);
}

/**
 * Judges a plan by thresholds for the demo model at 256x256 and 512x512, with tiles of 32 and 64 tokens.
 *
 * @param figures mean errors of attention, `ours` with each head's own shape and `theirs` with `single`, the best shape
 * for all
 */
export function searchVerdict(
  { ours, theirs, keep, single }: { ours: number; theirs: number; keep: number; single: string },
): Verdict {
  const advice: string[] = [];
  if (theirs > 0 && 1 - ours / theirs < LEAST_GAIN) {
    advice.push(`One shape for all heads is as good: --tile-shape ${single}.`);
  }
  if (ours > GOOD_ERROR) {
    advice.push(
      `Search and render with a larger --keep than ${keep}: at 512x512, the demo model's error is 9.5 % at 0.2, 18 % at ` +
        "0.1 and 27 % at 0.05.",
    );
  }
  return {
    grade: ours <= GOOD_ERROR ? "good" : ours <= FAIR_ERROR ? "fair" : "poor",
    why: `With the best ${percent(keep)} of the tiles, the error of attention is ${percent(ours)}: ${CLIPS}.`,
    advice,
  };
}
