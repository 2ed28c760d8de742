/**
 * Writes the report of a comparison: the page and the numbers.
 *
 * @module
 */
import { type Comparison, toJson } from "../compare/comparison.ts";
import { writeAtomically } from "../../model/files/output.ts";
import { embedClips } from "./embed.ts";
import { reportFiles } from "./files.ts";
import { reportPage } from "./page.ts";

/** What was written. */
export interface WrittenReport {
  readonly page: string;
  readonly table: string;
  /** The number of last prompts whose clips were left out of the page to keep it small. */
  readonly left: number;
}

/**
 * Writes `report.html` and `table.json` into the folder of a comparison.
 *
 * @throws {TilereelError} when it cannot be written
 */
export async function writeReport(folder: string, comparison: Comparison): Promise<WrittenReport> {
  const embedded = await embedClips(folder, comparison.prompts);
  const text = await reportPage(comparison, embedded);
  const { page, table } = reportFiles(folder);
  await writeAtomically(page, (temporary) => Deno.writeTextFile(temporary, text));
  await writeAtomically(table, (temporary) => Deno.writeTextFile(temporary, toJson(comparison)));
  return { page, table, left: comparison.prompts.length - embedded.length };
}
