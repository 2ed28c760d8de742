/**
 * How a benchmark hands over what it measured.
 *
 * @module
 */
import { flag, path } from "../tools/program/options.ts";

/** Options of every benchmark. */
export const resultOptions = {
  json: flag({ group: "Bench", help: "Print JSON instead of a table." }),
  save: path({ group: "Bench", value: "FILE", help: "Write the JSON to a file too." }),
};

/** What the options say. */
export interface ResultValues {
  readonly json?: boolean | undefined;
  readonly save?: string | undefined;
}

/** Writes the data to the requested place. It also writes partial data, because a benchmark may be stopped. */
export function saveResult({ save }: ResultValues, data: unknown): void {
  if (save !== undefined) Deno.writeTextFileSync(save, `${JSON.stringify(data)}\n`);
}

/** Prints the table, or the data as JSON, and writes the data. */
export function handOver(values: ResultValues, data: unknown, table: string): void {
  saveResult(values, data);
  console.log(values.json ? JSON.stringify(data) : table);
}
