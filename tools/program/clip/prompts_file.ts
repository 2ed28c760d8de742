import { TilereelError } from "../../../gpu/common/errors.ts";
import { isNotFound, systemReason, TOO_LONG } from "../../../model/files/file_error.ts";
import { parseJsonObject } from "../../../model/checkpoint/json.ts";
import { LOOK_AT, recogniseBytes, type Recognised } from "../../../model/checkpoint/recognise.ts";
import { clipOptions } from "./clip_options.ts";
import { type OptionTable, type OptionValues, path, text } from "../options.ts";
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

/** The name that stands for the standard input. */
export const STDIN = "-";

/** Kinds of files that may contain prompts, or whose errors are reported by their contents. */
const PROMPTS: readonly string[] = ["text", "json", "empty", "unknown"] satisfies Recognised["kind"][];

/** The most characters of a path in a message: a longer one is probably a prompt. */
const LONGEST_SHOWN = 255;

/** Keys of a line in addition to the options of a clip. */
const LINE = {
  prompt: text({ group: "Line", value: "TEXT", help: "What to show." }),
  out: path({ group: "Line", value: "PATH", help: "Where to write the clip." }),
};

const EXAMPLE = '{"prompt": "a red circle", "seed": 7}';

/** The name of a prompts file in messages. */
export function promptsName(path: string): string {
  return path === STDIN ? "the standard input" : path;
}

/**
 * Reads a prompts file, or the standard input for the path "-".
 *
 * @param table the options that a line of JSON can have as keys
 * @throws {TilereelError} when it cannot be read, holds no prompt, or a line is wrong
 */
export async function readPrompts<T extends OptionTable = typeof clipOptions>(
  path: string,
  table?: T,
): Promise<PromptEntry<T>[]> {
  let content: string;
  try {
    const bytes = path === STDIN
      ? new Uint8Array(await new Response(Deno.stdin.readable).arrayBuffer())
      : await Deno.readFile(path);
    const { kind, is } = recogniseBytes(bytes.subarray(0, LOOK_AT));
    if (!PROMPTS.includes(kind)) {
      throw new TilereelError(`${promptsName(path)} is ${is}, but a text file with one prompt per line was expected`);
    }
    content = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    if (error instanceof TilereelError) throw error;
    const system = systemReason(error), isText = "(a prompt itself is written without --prompts or -p)";
    const reason = isNotFound(error)
      ? `there is no such file ${isText}`
      : system === TOO_LONG
      ? `${system} ${isText}`
      : error instanceof Deno.errors.IsADirectory
      ? "it is a folder"
      : error instanceof TypeError
      ? "it is not UTF-8 text"
      : system ?? (error as Error).message;
    const shown = path.length > LONGEST_SHOWN ? `${path.slice(0, LONGEST_SHOWN - 1)}…` : path;
    throw new TilereelError(`--prompts ${shown} cannot be read: ${reason}`, { cause: error });
  }
  return parsePrompts(content, promptsName(path), table);
}

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
