import { TilereelError } from "../../gpu/common/errors.ts";
import { LOOK_AT, recogniseBytes, type Recognised } from "../../model/checkpoint/recognise.ts";
import { isNotFound, systemReason, TOO_LONG } from "../../model/files/file_error.ts";
import type { clipOptions } from "./clip/clip_options.ts";
import { parsePrompts, type PromptEntry } from "./clip/prompts.ts";
import type { OptionTable } from "./options.ts";

/** The name that stands for the standard input. */
export const STDIN = "-";

/** Kinds of files that may contain prompts, or whose errors are reported by their contents. */
const PROMPTS: readonly string[] = ["text", "json", "empty", "unknown"] satisfies Recognised["kind"][];

/** The most characters of a path in a message: a longer one is probably a prompt. */
const LONGEST_SHOWN = 255;

/** What the standard input had: it can be read only once. */
let piped: Promise<Uint8Array> | undefined;

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
    const bytes = path === STDIN ? await (piped ??= readStdin()) : await Deno.readFile(path);
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

async function readStdin(): Promise<Uint8Array> {
  return new Uint8Array(await new Response(Deno.stdin.readable).arrayBuffer());
}
