import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { quoted, quotedValue, TilereelError } from "../../gpu/common/errors.ts";
import { folderAt } from "../files/disk.ts";
import type { FileStore } from "../files/store.ts";
import { isJsonObject, readJsonObject } from "../checkpoint/json.ts";
import { readClipVocabulary } from "./clip_vocabulary.ts";
import { correct } from "./corrections.ts";
import { isSafePattern } from "./safe_pattern.ts";
import { readSentencePiece } from "./spiece.ts";

/** The tokens of one text. */
export interface EncodedText {
  /** Token ids, padded to the length asked for. */
  readonly ids: Int32Array<ArrayBuffer>;
  /** How many of them belong to the text, its start and end tokens included. */
  readonly length: number;
  /** How many tokens did not fit. */
  readonly lost: number;
}

/** Turns text into token ids like Hugging Face's tokenizers, which diffusers and Wan's own program use. */
export interface Tokenizer {
  /** The id that fills `ids` behind the text. */
  readonly padId: number;
  /**
   * Encodes `text` as it stands (see `cleanPrompt`) into `maxLength` ids. A text that is too long loses tokens at its
   * end, but keeps its start and end tokens.
   */
  encode(text: string, maxLength: number): EncodedText;
  /** Words of a text that the vocabulary lacks, or has only as single letters: a model understands little of them. */
  unknownWords(text: string): string[];
}

/**
 * Loads the tokenizer of a folder: `tokenizer.json`, else `spiece.model`, or CLIP's `vocab.json` and `merges.txt`; each
 * with `tokenizer_config.json`. Padding and truncation set in them are ignored: `encode` is told the length.
 *
 * @throws {TilereelError} if a file is missing or damaged, or holds a tokenizer of a kind that is not supported, or one
 * that puts no token around a text
 */
export async function loadTokenizer(place: string | FileStore): Promise<Tokenizer> {
  const folder = folderAt(place), about = folder.file("tokenizer_config.json");
  const json = folder.file("tokenizer.json"), spiece = folder.file("spiece.model"), vocab = folder.file("vocab.json");
  const from = await json.kind() ? json : await spiece.kind() ? spiece : await vocab.kind() ? vocab : json;
  // Loose files have none.
  const config = from === spiece && !await about.kind() ? {} : await readJsonObject(about);
  const description = from === spiece
    ? await readSentencePiece(spiece, specialToken(config.eos_token) ?? "</s>")
    : from === vocab
    ? await readClipVocabulary(vocab, folder.file("merges.txt"))
    : await readJsonObject(json, LARGEST_TOKENIZER);
  const { path } = from, { tokenizer, start, end } = opened(description, path);
  // LLaMA 3's first files leave this to transformers' `LlamaTokenizerFast`, which puts it first unless it is told not to.
  const first = tokenizer.token_to_id(specialToken(config.bos_token) ?? "");
  const leftOut = start.length + end.length === 0 && config.add_bos_token !== false;
  if (leftOut && first !== undefined) start.push(first);

  const framing = start.length + end.length;
  if (framing === 0) {
    throw new TilereelError(
      `${path}: a tokenizer that puts no token around a text is not supported; a start or end token was expected`,
    );
  }
  const padToken = specialToken(config.pad_token) ?? "<pad>", padId = tokenizer.token_to_id(padToken);
  if (padId === undefined) throw new TilereelError(`${path} has no token ${quoted(padToken)} to pad with`);
  const unknownId = tokenizer.model?.unk_token_id;
  const bodyOf = (text: string) => bodyIds(tokenizer, text, path);
  return {
    padId,
    encode(text, maxLength) {
      const body = bodyOf(text);
      const tokens = [...start, ...body.slice(0, Math.max(0, maxLength - framing)), ...end].slice(-maxLength);
      const ids = new Int32Array(maxLength).fill(padId);
      ids.set(tokens);
      return { ids, length: tokens.length, lost: body.length + framing - tokens.length };
    },
    unknownWords(text) {
      // In languages whose words are single letters, such as Chinese, this means nothing.
      const words = new Set(text.match(/[\p{Script=Latin}]{3,}|[\p{L}\p{N}]+/gu));
      return [...words].filter((word) => {
        const ids = bodyOf(word);
        const spelt = /^[\p{Script=Latin}]{3,}$/u.test(word) && ids.length >= [...word].length;
        return spelt || unknownId !== undefined && ids.includes(unknownId);
      });
    },
  };
}

/** A limit above those of the largest vocabularies, which have 33 MB. */
const LARGEST_TOKENIZER = 2 ** 26;
/** A limit above the largest vocabularies, which have 262,144 tokens. */
const MOST_TOKENS = 2 ** 21;
/** The longest text. Encoders see a few thousand tokens at most. */
const LONGEST_TEXT = 2 ** 16;

/** The ids of a text without the tokens around it. */
function bodyIds(tokenizer: HuggingFaceTokenizer, text: string, path: string): number[] {
  if (text.length > LONGEST_TEXT) {
    throw new TilereelError(
      `a text has ${text.length} characters, but at most ${LONGEST_TEXT} were expected; shorten the prompt`,
    );
  }
  let ids: number[];
  try {
    ids = tokenizer.encode(text, { add_special_tokens: false }).ids;
  } catch (cause) {
    throw damaged(path, cause);
  }
  if (ids.every((id) => Number.isInteger(id) && id >= 0)) return ids;
  throw damaged(path, new RangeError("it has no number for a token"));
}

function damaged(path: string, cause: unknown): TilereelError {
  const { message } = cause as Error;
  // What the library and the engine say of other values that they did not expect helps nobody.
  const isClear = cause instanceof RangeError || cause instanceof SyntaxError ||
    /^Unknown \w+ type: (?!undefined)\w+$/.test(message);
  const said = isClear ? ` (${quoted(message)})` : "";
  return new TilereelError(
    `${path} is damaged or holds a tokenizer of a kind that is not supported${said}; download it again`,
    { cause },
  );
}

/** @throws {RangeError} if a pattern in a tokenizer's description is none, or could match for ever */
function checkPatterns(description: unknown): void {
  if (typeof description !== "object" || description === null) return;
  const { type, pattern } = description as Readonly<Record<string, unknown>>;
  // The library would print a warning.
  if ((type === "Split" || type === "Replace") && !isPattern(pattern)) throw new RangeError("a pattern is not a text");
  for (const [key, value] of Object.entries(description)) {
    if (key === "Regex" && typeof value === "string") {
      if (!isSafePattern(value)) {
        throw new RangeError(`the regular expression ${quoted(value, 30)} could take for ever`);
      }
    } else if (key !== "model") checkPatterns(value);
  }
}

/**
 * Checks the numbers of tokens. The library makes lists that are as long as the largest.
 *
 * @throws {RangeError} if one is no number of a token
 */
function checkIds({ added_tokens, model }: { readonly added_tokens?: unknown; readonly model?: unknown }): void {
  const { vocab } = (model ?? {}) as { readonly vocab?: unknown };
  const added = Array.isArray(added_tokens) ? added_tokens.map((token) => token?.id) : [];
  const named = isJsonObject(vocab) ? Object.values(vocab) : [];
  for (const id of [added, named].flat()) {
    const isId = Number.isInteger(id) && id as number >= 0 && id as number < MOST_TOKENS;
    if (!isId) {
      throw new RangeError(
        id === undefined ? "a token has no number" : `a token has the number ${quotedValue(id, 30)}`,
      );
    }
  }
}

function isPattern(value: unknown): boolean {
  const { Regex, String } = (value ?? {}) as Readonly<Record<string, unknown>>;
  return typeof (Regex ?? String) === "string";
}

/** The tokenizer that a `tokenizer.json` describes, and the ids that it puts before and after a text. */
function opened(description: { readonly pre_tokenizer?: unknown; readonly added_tokens?: unknown }, path: string) {
  try {
    checkPatterns(description);
    checkIds(description);
    const tokenizer = new HuggingFaceTokenizer(description, {});
    correct(tokenizer, (description.pre_tokenizer as { split?: boolean } | null)?.split !== false);
    const text = "", framed = tokenizer.post_processor?.post_process([text]).tokens ?? [text];
    const at = framed.indexOf(text), ids = framed.map((token) => tokenizer.token_to_id(token));
    const isId = (id: number | undefined, i: number) => i === at || id !== undefined;
    if (at >= 0 && ids.every(isId)) {
      return { tokenizer, start: ids.slice(0, at) as number[], end: ids.slice(at + 1) as number[] };
    }
    throw new RangeError("the post-processor puts no special tokens around one text");
  } catch (cause) {
    throw damaged(path, cause);
  }
}

/** A special token in a tokenizer's config is a string, or an object with its text as `content`. */
function specialToken(token: unknown): string | undefined {
  const content = (token as { readonly content?: unknown } | null | undefined)?.content ?? token;
  return typeof content === "string" ? content : undefined;
}
