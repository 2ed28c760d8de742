/**
 * Text to token ids, by a model's own `tokenizer.json`.
 *
 * @module
 */
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { TilereelError } from "../../errors.ts";
import { readJsonObject } from "../checkpoint/json.ts";

/** The tokens of one text. */
export interface EncodedText {
  /** Token ids, padded to the length asked for. */
  readonly ids: Int32Array<ArrayBuffer>;
  /** How many of them are the text's, its end token included. */
  readonly length: number;
  /** How many there was no room for. */
  readonly lost: number;
}

/** Turns text into token ids. */
export interface Tokenizer {
  /** The id that fills `ids` behind the text. */
  readonly padId: number;
  /**
   * Encodes `text` as it stands (see `cleanPrompt`) into `maxLength` ids. A text that is too long loses tokens at its
   * end, but keeps the end token.
   */
  encode(text: string, maxLength: number): EncodedText;
  /** Words of a text that the vocabulary has nothing for, or but their single letters: they say little to a model. */
  unknownWords(text: string): string[];
}

/**
 * Loads `tokenizer.json` and `tokenizer_config.json` from `folder`. Padding and truncation set in them are ignored:
 * `encode` is told the length.
 *
 * @throws {TilereelError} if a file is missing or is no tokenizer that ends a text with its end token.
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const path = `${folder}/tokenizer.json`;
  const config = await readJsonObject(`${folder}/tokenizer_config.json`);
  const json = await readJsonObject(path);
  const tokenizer = createTokenizer(path, json, config);

  const padToken = tokenContent(config.pad_token) ?? "<pad>";
  const padId = tokenizer.token_to_id(padToken);
  if (padId === undefined) throw new TilereelError(`${path} has no token ${JSON.stringify(padToken)} to pad with`);

  const unknownId = tokenizer.token_to_id(tokenContent(config.unk_token) ?? "<unk>");

  // The library adds special tokens before one could truncate, so they are learnt here and added by ourselves.
  const ending = tokenizer.encode("").ids;
  const withEnding = tokenizer.encode("a").ids;
  const bare = tokenizer.encode("a", { add_special_tokens: false }).ids;
  if (ending.length === 0 || withEnding.join() !== [...bare, ...ending].join()) {
    throw new TilereelError(`${path} does not end a text with an end token, as the tokenizer of a T5 model must`);
  }

  return {
    padId,
    encode(text, maxLength) {
      const body = tokenizer.encode(text, { add_special_tokens: false }).ids;
      const tokens = [...body.slice(0, Math.max(0, maxLength - ending.length)), ...ending].slice(-maxLength);
      const ids = new Int32Array(maxLength).fill(padId);
      ids.set(tokens);
      return { ids, length: tokens.length, lost: body.length + ending.length - tokens.length };
    },
    unknownWords(text) {
      // Where letters are words, as in Chinese, being spelt says nothing.
      const words = new Set(text.match(/[\p{Script=Latin}]{3,}|[\p{L}\p{N}]+/gu));
      return [...words].filter((word) => {
        const { ids } = tokenizer.encode(word, { add_special_tokens: false });
        const spelt = /^[\p{Script=Latin}]{3,}$/u.test(word) && ids.length >= [...word].length;
        return spelt || unknownId !== undefined && ids.includes(unknownId);
      });
    },
  };
}

function createTokenizer(
  path: string,
  json: Record<string, unknown>,
  config: Record<string, unknown>,
): HuggingFaceTokenizer {
  try {
    return new HuggingFaceTokenizer(json, config);
  } catch (error) {
    throw new TilereelError(`${path} is no tokenizer that can be read: ${(error as Error).message}`, { cause: error });
  }
}

/** A special token in a tokenizer's config is a string or an object with its text as `content`. */
function tokenContent(token: unknown): string | undefined {
  const content = typeof token === "object" && token !== null && "content" in token ? token.content : token;
  return typeof content === "string" ? content : undefined;
}
