/**
 * The errors a user can cause or must act on. The command line prints their message as one sentence and exits with 1;
 * anything else that is thrown is a bug in tilereel.
 *
 * @module
 */

/** Something the user can put right. The message says what was wrong, what was expected, and what to do. */
export class TilereelError extends Error {
  override name = "TilereelError";

  /** Control characters in the message, which may come from file names, are escaped. */
  constructor(message: string, options?: ErrorOptions) {
    super(printable(message), options);
  }
}

/** Numbers came out that are not finite, and no clip. Other prompts and settings of the same model may fare better. */
export class NotFiniteError extends TilereelError {}

/** Foreign text in a message: in quotes, without control characters, cut where it is long. */
export function quoted(text: string, most = 60): string {
  const cut = text.length > most ? `${text.slice(0, most - 1)}…` : text;
  return printable(JSON.stringify(cut.toWellFormed()));
}

/** Text for one line of a terminal: what would move the cursor, colour it or turn the direction of writing is escaped. */
export function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
