/**
 * How a benchmark hands over what it measured.
 *
 * @module
 */
import { flag, path } from "../cli/options.ts";

/** Options of every benchmark. */
export const resultOptions = {
  json: flag({ group: "Bench", help: "Print JSON instead of a table." }),
  save: path({ group: "Bench", value: "FILE", help: "Write the JSON to a file too." }),
};

/** Prints the table, or the data as JSON; writes the data where it was asked for. */
export async function handOver(
  { json = false, save }: { readonly json?: boolean | undefined; readonly save?: string | undefined },
  data: unknown,
  table: string,
): Promise<void> {
  const text = JSON.stringify(data);
  if (save !== undefined) await Deno.writeTextFile(save, `${text}\n`);
  console.log(json ? text : table);
}
