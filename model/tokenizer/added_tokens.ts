/**
 * Tokens that stand for themselves in a text, such as `</s>`, whatever the model would make of them.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";

/** An entry of `added_tokens` in `tokenizer.json`. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Whether it also takes the white space before it, or after it. */
  readonly lstrip?: boolean;
  readonly rstrip?: boolean;
}

/** Splits a text at its added tokens, before the model sees the rest. */
export class AddedTokens {
  readonly #byContent: ReadonlyMap<string, AddedToken>;
  readonly #pattern: RegExp | undefined;

  /**
   * @param what the name of the file in messages
   * @throws {TilereelError} if one has no id or no content
   */
  constructor(tokens: readonly AddedToken[], what: string) {
    if (!tokens.every((token) => Number.isSafeInteger(token?.id) && typeof token.content === "string")) {
      throw new TilereelError(`${what}: its added_tokens are not tokens with id and content; download it again`);
    }
    this.#byContent = new Map(tokens.map((token) => [token.content, token]));
    // The longest comes first, so that it wins among those with the same beginning.
    const contents = [...this.#byContent.keys()].filter((content) => content !== "").sort((a, b) =>
      b.length - a.length
    );
    if (contents.length > 0) this.#pattern = new RegExp(`(${contents.map(RegExp.escape).join("|")})`, "u");
  }

  /** The id of a token with this text. */
  idOf(content: string): number | undefined {
    return this.#byContent.get(content)?.id;
  }

  /** The text between added tokens, and the ids of these tokens, in order. */
  split(text: string): (string | number)[] {
    if (!this.#pattern) return text === "" ? [] : [text];
    const parts = text.split(this.#pattern);
    return parts.flatMap((part, i): (string | number)[] => {
      if (i % 2 === 1) return [this.#byContent.get(part)!.id];
      const before = this.#byContent.get(parts[i - 1] ?? ""), after = this.#byContent.get(parts[i + 1] ?? "");
      if (before?.rstrip) part = part.replace(/^\p{White_Space}+/u, "");
      if (after?.lstrip) part = part.replace(/\p{White_Space}+$/u, "");
      return part === "" ? [] : [part];
    });
  }
}
