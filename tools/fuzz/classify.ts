import { TilereelError } from "../../gpu/common/errors.ts";

/** How a case ended. "hang" and "memory" are said by the parent, which ends such a case. */
export type Ending = "read" | "refused" | "bug" | "hang" | "memory";

/** The most characters of a clear sentence: what is foreign in it is cut, but paths are not. */
const LONGEST_SENTENCE = 700;

/** What an error is: a sentence for the user, or a bug, with why. */
export function classify(error: unknown): { readonly ending: Ending; readonly says?: string } {
  while (error instanceof SuppressedError) error = error.suppressed;
  if (!(error instanceof TilereelError)) {
    const stack = error instanceof Error ? `${error.stack}`.slice(0, 1500) : String(error).slice(0, 300);
    return { ending: "bug", says: stack };
  }
  const { message } = error, why = whyUnclear(message);
  return why === undefined ? { ending: "refused", says: message } : { ending: "bug", says: `${why}: ${message}` };
}

/** Why a message is not one clear sentence; undefined if it is. */
export function whyUnclear(message: string): string | undefined {
  return message.length > LONGEST_SENTENCE
    ? "its message is too long"
    : /[\p{Cc}\u2028\u2029\u202a-\u202e]/u.test(message)
    ? "its message has control characters"
    : /\bundefined\b|\[object |^\S*$/.test(message)
    ? "its message is no sentence"
    : undefined;
}
