/**
 * The summary of a search for tile shapes.
 *
 * @module
 */
import { type TileShapes, uniformShapes } from "../../../model/veda/tile_shapes.ts";
import { bestSingle, meanError, type SearchTable } from "../../../model/veda/plan_choice.ts";
import { sizesText } from "../../../tools/program/clip/vorta_options.ts";
import { textTable } from "../../../tools/program/text_table.ts";
import type { Summary } from "../summary.ts";
import { percent } from "../verdict.ts";
import { searchVerdict } from "./verdict.ts";

/** A plan that was found and written. */
export interface FoundPlan {
  readonly table: SearchTable;
  readonly plan: TileShapes;
  /** The file of the plan. */
  readonly out: string;
  readonly keep: number;
  readonly tileTokens: number;
}

/** Sums up a search. */
export function searchSummary(found: FoundPlan): Omit<Summary, "invitation" | "next"> {
  const { table, plan, out, keep, tileTokens } = found;
  const { shapes, errors, votes } = table, single = bestSingle(table);
  const size = { layers: errors.length, heads: errors[0]!.length };
  const ours = meanError(table, plan), theirs = meanError(table, uniformShapes(single, size));
  const less = theirs > 0 ? ` (${percent(1 - ours / theirs)} less)` : "";
  const lists = (byLayer: readonly (readonly Iterable<number>[])[]) =>
    byLayer.map((heads) => heads.map((numbers) => [...numbers]));
  return {
    facts: {
      ...{ out, keep, tileTokens, shapes, errors: lists(errors), votes: lists(votes) },
      plan: { shapes: plan.shapes, choices: plan.choices.map((choice) => [...choice]) },
      ...{ single, ours, theirs },
    },
    lines: [
      layerTable(plan),
      `${out}: at keep ${keep} the error of attention is ${percent(ours)} with each head's own shape${less}, and ` +
      `${percent(theirs)} with the best single shape, ${sizesText(single)}.`,
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
