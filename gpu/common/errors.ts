/** The most characters of a message. Only foreign text that was not quoted makes a longer one. */
const LONGEST_MESSAGE = 1200;

/**
 * An error that a user can cause or must act on. The message is one sentence: what was wrong, what was expected, and
 * what to do. Anything else that is thrown is a bug in tilereel.
 */
export class TilereelError extends Error {
  override name = "TilereelError";
  /** The name of the option whose value was refused, if it was one: "flow-shift", without dashes before it. */
  readonly option: string | undefined;

  /** Control characters in the message, which may come from file names, are escaped. What is too long is cut. */
  constructor(message: string, options?: ErrorOptions & { readonly option?: string | undefined }) {
    super(printable(cut(message, LONGEST_MESSAGE)), options);
    this.option = options?.option;
  }
}

/** A computation gave numbers that are not finite, so there is no clip. Other prompts or settings may work. */
export class NotFiniteError extends TilereelError {}

/** There is too little memory for what is to be held at once. Less may fit. */
export class OutOfMemoryError extends TilereelError {}

/** The device is lost, and all that was on it. Another one may be opened. */
export class DeviceLostError extends TilereelError {}

/** Quotes foreign text for a message: without control characters, and cut to `most` characters or twice that with escapes. */
export function quoted(text: string, most = 60): string {
  const escaped = printable(JSON.stringify(cut(text, most).toWellFormed()));
  if (escaped.length <= 2 * most + 2) return escaped;
  // No escape is cut in its middle.
  return `${escaped.slice(0, 2 * most).replace(/\\(u[0-9a-f]{0,3})?$/, "")}…"`;
}

/** A value of foreign JSON in a message: as JSON, cut to `most` characters. Texts are {@link quoted}. */
export function quotedValue(value: unknown, most = 60): string {
  if (typeof value === "string") return quoted(value, most);
  return printable(cut(JSON.stringify(value) ?? "nothing", most).toWellFormed());
}

/** The text, cut to `most` characters. */
export function cut(text: string, most = 60): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** Escapes the characters that would move a terminal's cursor, colour its text or turn the direction of writing. */
export function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
