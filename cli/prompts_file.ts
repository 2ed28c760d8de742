/**
 * Files of prompts: one a line as text, or one JSON object a line.
 *
 * @module
 */
import { TilereelError } from "../errors.ts";
import { clipOptions, type ClipValues } from "./clip_options.ts";
import { suggestOption } from "./options.ts";

/** One clip that a prompts file asks for. */
export interface PromptEntry {
  readonly prompt: string;
  /** Where to write it, if the line says so. */
  readonly out?: string;
  /** What the line sets. */
  readonly values: ClipValues;
  /** Line number from 1, for messages. */
  readonly line: number;
}

const KEYS = ["prompt", "out", ...Object.keys(clipOptions)];

/**
 * Reads a prompts file.
 *
 * @throws {TilereelError} when it cannot be read, holds no prompt, or a line is wrong
 */
export async function readPrompts(path: string): Promise<PromptEntry[]> {
  let content: string;
  try {
    content = new TextDecoder("utf-8", { fatal: true }).decode(await Deno.readFile(path));
  } catch (error) {
    const reason = error instanceof Deno.errors.NotFound
      ? "there is no such file (a prompt itself is written without --prompts or -p)"
      : error instanceof Deno.errors.IsADirectory
      ? "it is a folder"
      : error instanceof Deno.errors.PermissionDenied
      ? "no permission to read it"
      : error instanceof TypeError
      ? "it is not UTF-8 text"
      : (error as Error).message;
    throw new TilereelError(`--prompts ${path} cannot be read: ${reason}`, { cause: error });
  }
  return parsePrompts(content, path);
}

/**
 * The clips a prompts file asks for. Blank lines and lines that begin with `#` don't count. A line that begins with `{`
 * is a JSON object (in a `.jsonl` file every line must be); any other is a prompt.
 *
 * @throws {TilereelError} with the line's number
 */
export function parsePrompts(content: string, path: string): PromptEntry[] {
  const onlyJson = /\.(jsonl|ndjson)$/i.test(path);
  const entries: PromptEntry[] = [];
  for (const [index, raw] of content.replace(/^\uFEFF/, "").split(/\r?\n/).entries()) {
    const text = raw.trim();
    if (text === "" || text.startsWith("#")) continue;
    const line = index + 1;
    if (text.startsWith("{") || onlyJson) entries.push({ ...parseObject(text, `${path} line ${line}`), line });
    else entries.push({ prompt: text, values: {}, line });
  }
  if (entries.length === 0) throw new TilereelError(`${path} holds no prompts: write one a line`);
  return entries;
}

function parseObject(text: string, where: string): Omit<PromptEntry, "line"> {
  let object: unknown;
  try {
    object = JSON.parse(text);
  } catch {
    throw new TilereelError(`${where} is no valid JSON: write one object a line, as in {"prompt": "a red circle"}`);
  }
  if (typeof object !== "object" || object === null || Array.isArray(object)) {
    throw new TilereelError(`${where} is no JSON object, as in {"prompt": "a red circle"}`);
  }
  const values: Record<string, unknown> = {};
  let prompt: string | undefined;
  let out: string | undefined;
  for (const [given, value] of Object.entries(object)) {
    const key = given.replaceAll("_", "-");
    if (!KEYS.includes(key)) {
      throw new TilereelError(
        `${where}: unknown key "${given}"${suggestOption(key, KEYS, clipOptions, (k) => `"${k}"`)}`,
      );
    }
    if (value === null) continue;
    if (typeof value !== "string" && typeof value !== "number") {
      throw new TilereelError(`${where}: "${given}" must be text or a number`);
    }
    if (key === "prompt") prompt = String(value);
    else if (key === "out") out = String(value);
    else values[key] = clipOptions[key as keyof typeof clipOptions].parse(String(value), `${where}: "${given}"`);
  }
  if (prompt === undefined) throw new TilereelError(`${where} has no "prompt"`);
  return { prompt, ...out !== undefined && { out }, values: values as ClipValues };
}
