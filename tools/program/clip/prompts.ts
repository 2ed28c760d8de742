import { TilereelError } from "../../../gpu/common/errors.ts";
import { parseJsonObject } from "../../../model/checkpoint/json.ts";
import { type OptionTable, type OptionValues, path, text } from "../options.ts";
import { clipOptions } from "./clip_options.ts";
import { readValues } from "./read_values.ts";

/** One clip that a prompts file asks for. */
export interface PromptEntry<T extends OptionTable = typeof clipOptions> {
  readonly prompt: string;
  /** The path to write, if the line has one. */
  readonly out?: string;
  /** The options that the line sets. */
  readonly values: OptionValues<T>;
  /** Line number from 1, for messages. */
  readonly line: number;
}

/** Keys of a line in addition to the options of a clip. */
const LINE = {
  prompt: text({ group: "Line", value: "TEXT", help: "What to show." }),
  out: path({ group: "Line", value: "PATH", help: "Where to write the clip." }),
};

const EXAMPLE = '{"prompt": "a red circle", "seed": 7}';

/**
 * The clips a prompts file asks for. Blank lines and lines that begin with `#` are ignored. A line that begins with `{`
 * is a JSON object (in a `.jsonl` file every line must be); any other is a prompt.
 *
 * @throws {TilereelError} with the line's number
 */
export function parsePrompts<T extends OptionTable = typeof clipOptions>(
  content: string,
  path: string,
  table: OptionTable = clipOptions,
): PromptEntry<T>[] {
  const onlyJson = /\.(jsonl|ndjson)$/i.test(path);
  const text = content.replace(/^\uFEFF/, "");
  // Otherwise each of its lines would be taken for a prompt.
  if (/^\s*\[\s*["{[\]]/.test(text)) {
    throw new TilereelError(
      `${path} is a JSON array, but JSONL was expected: write one object per line, without brackets and commas around ` +
        `them, as in ${EXAMPLE}`,
    );
  }
  const entries: PromptEntry<OptionTable>[] = [];
  for (const [index, raw] of text.split(/\r?\n/).entries()) {
    const trimmed = raw.trim();
    if (trimmed === "" || trimmed.startsWith("#")) continue;
    const line = index + 1;
    if (trimmed.startsWith("{") || onlyJson) {
      entries.push({ ...parseObject(trimmed, `${path} line ${line}`, table), line });
    } else entries.push({ prompt: trimmed, values: {}, line });
  }
  if (entries.length === 0) throw new TilereelError(`${path} has no prompts: write one per line`);
  return entries as PromptEntry<T>[];
}

function parseObject(text: string, where: string, table: OptionTable): Omit<PromptEntry<OptionTable>, "line"> {
  const object = parseJsonObject(text);
  if (!object) throw new TilereelError(`${where} is not a JSON object: write one per line, as in ${EXAMPLE}`);
  const { prompt, out, ...values } = readValues(object, { ...LINE, ...table }, where);
  if (prompt === undefined) throw new TilereelError(`${where} has no "prompt"`);
  if (prompt.trim() === "") throw new TilereelError(`${where}: the prompt is empty`);
  return { prompt, ...out !== undefined && { out }, values };
}
