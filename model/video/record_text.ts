import { TilereelError } from "../../gpu/common/errors.ts";
import { formatBytes } from "../../gpu/common/format_bytes.ts";

/** A JSON object that says what made a clip, kept as text in the clip's file. */
export type ClipRecord = Readonly<Record<string, unknown>>;

/** Bytes that a record has at most, as JSON in UTF-8. */
const LARGEST_RECORD = 1 << 20;
/** The name of the record in that text. */
export const NAME = "tilereel";

/**
 * A record as it is written.
 *
 * @throws {TilereelError} when it is larger than 1 MiB, or cannot be written as a JSON object
 */
export function recordText(record: ClipRecord): string {
  let text: string;
  try {
    if (Array.isArray(record)) throw new TypeError("a list");
    text = JSON.stringify({ [NAME]: record });
  } catch (error) {
    throw new TilereelError(
      "the record of the clip cannot be written as a JSON object: give text, numbers, lists and objects of these",
      { cause: error },
    );
  }
  const bytes = new TextEncoder().encode(text).length;
  if (bytes > LARGEST_RECORD) {
    throw new TilereelError(
      `the record of the clip takes ${formatBytes(bytes)}, and a file holds up to ${formatBytes(LARGEST_RECORD)}: ` +
        `shorten the prompt`,
    );
  }
  return text;
}

/**
 * Checks that a comment in a clip's file may be a record.
 *
 * @param bytes its size
 * @throws {TilereelError} when it is too large
 */
export function checkRecordSize(path: string, bytes: number): void {
  if (bytes <= LARGEST_RECORD) return;
  throw new TilereelError(
    `${path} has a comment of ${formatBytes(bytes)}, and a record of how it was made has up to ` +
      `${formatBytes(LARGEST_RECORD)}: name a clip that tilereel wrote`,
  );
}

/** The same JSON with all characters outside ASCII as `\u` escapes. */
export function toAscii(json: string): string {
  return json.replace(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
