import { join } from "node:path";
import { type Comparison, toJson } from "../compare/comparison.ts";
import { writeAtomically } from "../../model/files/output.ts";
import { embedClips } from "./embed.ts";
import { reportPage } from "./page.ts";

/** The paths of the page and of the numbers in the folder of a comparison. */
export function reportFiles(folder: string): { readonly page: string; readonly table: string } {
  return { page: join(folder, "report.html"), table: join(folder, "table.json") };
}

/** Writes the report of a comparison: the files of {@link reportFiles}. */
export async function writeReport(folder: string, comparison: Comparison): Promise<number> {
  const embedded = await embedClips(folder, comparison.prompts);
  const text = await reportPage(comparison, embedded);
  const { page, table } = reportFiles(folder);
  await writeAtomically(page, (temporary) => Deno.writeTextFile(temporary, text));
  await writeAtomically(table, (temporary) => Deno.writeTextFile(temporary, toJson(comparison)));
  return comparison.prompts.length - embedded.length;
}
