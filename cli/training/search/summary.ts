import { type TileShapes, uniformShapes } from "../../../model/veda/tile_shapes.ts";
import { bestSingle, meanError, type SearchTable } from "../../../model/veda/plan_choice.ts";
import { sizesText } from "../../../tools/program/clip/vorta_options.ts";
import { textTable } from "../../../tools/program/text_table.ts";
import { percent, type Summary, type Verdict } from "../summary.ts";

/** Error of attention with the oracle's tiles, and the clips' PSNR to full attention's: at keep 0.5, and 0.25. */
const GOOD = { error: 0.04, psnr: "25 to 27 dB" }, FAIR = { error: 0.134, psnr: "21 to 22 dB" };
/** Measured: 14.0 % of error for own shapes and 17.7 % for the best single one, 21 % less. */
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
 * Judges a plan by thresholds for an earlier demo model at 256x256 with searched tiles of 32 tokens.
 *
 * @param figures mean errors of attention, `ours` with each head's own shape and `theirs` with `single`, the best shape
 * for all
 */
export function searchVerdict(
  { ours, theirs, keep, single }: { ours: number; theirs: number; keep: number; single: string },
): Verdict {
  const advice: string[] = [];
  if (theirs > 0 && 1 - ours / theirs < LEAST_GAIN) {
    advice.push(`One shape for all heads is as good and needs fewer runs of the kernels: --tile-shape ${single}.`);
  }
  const error = `With the best ${percent(keep)} of the tiles, the error of attention is ${percent(ours)}`;
  if (ours <= GOOD.error) {
    return {
      grade: "good",
      why: `${error}: an earlier demo model's clips then had ${GOOD.psnr} of PSNR to full's.`,
      advice,
    };
  }
  advice.push(
    `Search and render with a larger --keep than ${keep}: an earlier demo model's error was 4 % at 0.5 and 13 % at 0.25.`,
  );
  if (ours <= FAIR.error) {
    const why =
      `${error}: between ${percent(GOOD.error)}, where an earlier demo model's clips had ${GOOD.psnr} of PSNR to ` +
      `full's, and ${percent(FAIR.error)}, where they have ${FAIR.psnr}.`;
    return { grade: "fair", why, advice };
  }
  return {
    grade: "poor",
    why:
      `${error}, more than the ${
        percent(FAIR.error)
      } at which an earlier demo model's clips had ${FAIR.psnr} of PSNR to ` +
      "full's.",
    advice,
  };
}
