/**
 * Text to token ids, by a model's own `tokenizer.json` or `spiece.model`, as Hugging Face's tokenizers makes them: what
 * diffusers and Wan's own program use.
 *
 * @module
 */
import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { folderAt } from "../files/disk.ts";
import { type FileStore, readBytes, type StoredFile } from "../files/store.ts";
import { readJsonObject } from "../checkpoint/json.ts";
import { expectKind, LOOK_AT, recogniseBytes } from "../checkpoint/recognise.ts";
import { type AddedToken, AddedTokens } from "./added_tokens.ts";
import { parseSentencePiece, STANDALONE_TYPES } from "./spiece.ts";
import { META_SPACE, type Normalizer, normalizerOf, type Splitter, splitterOf } from "./steps.ts";
import { charsmapNormalizer } from "./charsmap.ts";
import type { TokenizerModel } from "./model.ts";
import { Unigram } from "./unigram.ts";

/** The tokens of one text. */
export interface EncodedText {
  /** Token ids, padded to the length asked for. */
  readonly ids: Int32Array<ArrayBuffer>;
  /** How many of them belong to the text, its start and end tokens included. */
  readonly length: number;
  /** How many tokens did not fit. */
  readonly lost: number;
}

/** Turns text into token ids. */
export interface Tokenizer {
  /** The id that fills `ids` behind the text. */
  readonly padId: number;
  /**
   * Encodes `text` as it stands (see `cleanPrompt`) into `maxLength` ids. A text that is too long loses tokens at its
   * end, but keeps its start and end tokens.
   */
  encode(text: string, maxLength: number): EncodedText;
  /**
   * Words of a text that the vocabulary does not have, or has only as single letters: a model understands little of
   * them.
   */
  unknownWords(text: string): string[];
}

/** The ids that a tokenizer puts before and after a text. */
interface Frame {
  readonly start: readonly number[];
  readonly end: readonly number[];
}

/** The parts of a tokenizer. */
interface Parts {
  readonly model: TokenizerModel;
  readonly added: AddedTokens;
  readonly normalize: Normalizer;
  readonly split: Splitter;
  readonly frame: Frame;
}

/**
 * Loads `tokenizer.json`, or where there is none `spiece.model`, and `tokenizer_config.json` from `folder`. Padding and
 * truncation set in them are ignored: `encode` is told the length.
 *
 * @throws {TilereelError} if a file is missing, or holds a tokenizer of another kind or one that frames a text with no token
 */
export async function loadTokenizer(place: string | FileStore): Promise<Tokenizer> {
  const folder = folderAt(place), json = folder.file("tokenizer.json"), spiece = folder.file("spiece.model");
  const config = await readJsonObject(folder.file("tokenizer_config.json"));
  const { path } = !await json.kind() && await spiece.kind() ? spiece : json;
  const parts = path === spiece.path
    ? partsOfSentencePiece(await readSentencePiece(spiece), config, path)
    : partsOfJson(await readJsonObject(json), path);

  const padToken = tokenContent(config.pad_token) ?? "<pad>";
  const padId = parts.added.idOf(padToken) ?? parts.model.idOf(padToken);
  if (padId === undefined) throw new TilereelError(`${path} has no token ${JSON.stringify(padToken)} to pad with`);
  const { model: { unknownId }, frame: { start, end } } = parts, framing = start.length + end.length;
  if (framing === 0) {
    throw new TilereelError(
      `${path}: a tokenizer that puts no token around a text is not supported; an end token was expected`,
    );
  }
  const bodyOf = (text: string) => encodeBody(text, parts);
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

async function readSentencePiece(file: StoredFile): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = await readBytes(file, "a SentencePiece model");
  // Such models have no mark of their own.
  expectKind(file.path, recogniseBytes(bytes.subarray(0, LOOK_AT)), ["unknown"], "a SentencePiece model");
  return bytes;
}

/** Ids of a text without its end. */
function encodeBody(text: string, { added, normalize, split, model }: Parts): number[] {
  return added.split(text).flatMap((part, i) => {
    if (typeof part === "number") return [part];
    const normalized = normalize(part);
    return normalized === "" ? [] : split(normalized, i === 0).flatMap((word) => model.encode(word));
  });
}

type Json = Readonly<Record<string, unknown>>;
/** What is made of a part of `tokenizer.json`, by its type. */
type Kinds<T> = Readonly<Record<string, (json: Json, path: string) => T>>;

/** The kinds of models in `tokenizer.json`. */
const MODELS: Kinds<TokenizerModel> = { Unigram: Unigram.ofJson };

function kindOf<T>(kinds: Kinds<T>, part: string, json: unknown, path: string): T {
  const of = (json ?? {}) as Json, type = String(of.type);
  if (Object.hasOwn(kinds, type)) return kinds[type]!(of, path);
  const expected = Object.keys(kinds).map((name) => `"${name}"`).join(" or ");
  throw new TilereelError(
    of.type === undefined
      ? `${path}: this tokenizer has no ${part} with a type; ${expected} was expected`
      : `${path}: this tokenizer's ${part} ${quoted(type)} is not supported; ${expected} was expected`,
  );
}

function partsOfJson(json: Record<string, unknown>, path: string): Parts {
  return {
    model: kindOf(MODELS, "model", json.model, path),
    added: new AddedTokens(Array.isArray(json.added_tokens) ? json.added_tokens : [], path),
    normalize: normalizerOf(json.normalizer, path),
    split: splitterOf(json.pre_tokenizer, path),
    frame: frameOf(json.post_processor, path),
  };
}

/** As the converter of transformers makes a tokenizer of T5's: without the fallback to bytes, whatever the file says. */
function partsOfSentencePiece(bytes: Uint8Array, config: Record<string, unknown>, path: string): Parts {
  const { pieces, unknownId, charsmap } = parseSentencePiece(bytes, path);
  const model = new Unigram({
    pieces: pieces.map(({ piece, score }) => [piece, score]),
    unknownId,
    byteFallback: false,
  });
  const mapped: Normalizer = charsmap.length === 0 ? (text) => text : charsmapNormalizer(charsmap, path);
  const added = pieces.flatMap(({ piece, type }, id): AddedToken[] =>
    STANDALONE_TYPES.includes(type) || id === unknownId ? [{ id, content: piece }] : []
  );
  const endToken = tokenContent(config.eos_token) ?? "</s>", end = model.idOf(endToken);
  if (end === undefined) throw new TilereelError(`${path} has no token ${JSON.stringify(endToken)} to end a text with`);
  return {
    model,
    added: new AddedTokens(added, path),
    normalize: (text) => mapped(text).replace(/\p{White_Space}+$/u, "").replace(/ {2,}/g, META_SPACE),
    split: splitterOf({ type: "Metaspace" }, path),
    frame: { start: [], end: [end] },
  };
}

/** The kinds of post-processors in `tokenizer.json`. */
const POST_PROCESSORS: Kinds<Frame> = {
  TemplateProcessing: frameOfTemplate,
  // Each works on what the one before it made.
  Sequence: ({ processors }, path) =>
    (Array.isArray(processors) ? processors : []).map((inner) => frameOf(inner, path)).reduce(
      ({ start, end }, outer) => ({ start: [...outer.start, ...start], end: [...end, ...outer.end] }),
      { start: [], end: [] },
    ),
};

/** The ids that a post-processor puts around a text. */
function frameOf(json: unknown, path: string): Frame {
  return kindOf(POST_PROCESSORS, "post_processor", json, path);
}

/** The ids that a template puts around a text. */
function frameOfTemplate({ single, special_tokens }: Json, path: string): Frame {
  const entries: readonly Record<string, { id?: string } | undefined>[] = Array.isArray(single) ? single : [];
  const text = entries.findIndex((entry) => "Sequence" in (entry ?? {}));
  const idsOf = (of: typeof entries) =>
    of.flatMap((entry): unknown[] =>
      (special_tokens as Record<string, { ids?: unknown[] }> | undefined)?.[entry?.SpecialToken?.id ?? ""]?.ids ?? [NaN]
    ) as number[];
  const frame = { start: idsOf(entries.slice(0, Math.max(text, 0))), end: idsOf(entries.slice(text + 1)) };
  if (text >= 0 && [...frame.start, ...frame.end].every(Number.isSafeInteger)) return frame;
  throw new TilereelError(
    `${path}: this tokenizer's template is not supported; special tokens around one text were expected`,
  );
}

/** A special token in a tokenizer's config is a string or an object with its text as `content`. */
function tokenContent(token: unknown): string | undefined {
  const content = typeof token === "object" && token !== null && "content" in token ? token.content : token;
  return typeof content === "string" ? content : undefined;
}
