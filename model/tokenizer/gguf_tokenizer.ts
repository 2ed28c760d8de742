import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { readGgufMetadata } from "../checkpoint/gguf.ts";
import type { StoredFile } from "../files/store.ts";
import { UNIGRAM_TYPES, unigramTokenizer } from "./spiece.ts";

/** What a `tokenizer.json` and a `tokenizer_config.json` say. */
export interface TokenizerFiles {
  readonly tokenizer: object;
  readonly config: object;
}

/** The metadata that names the kind of a file's tokenizer, if it has one. */
export const GGUF_TOKENIZER = "tokenizer.ggml.model";

/** How LLaMA 3 cuts a text into words. */
const WORDS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" +
  "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** Metadata of one file, checked when it is read. */
class Metadata {
  constructor(private readonly path: string, private readonly values: Readonly<Record<string, unknown>>) {}

  list<T>(key: string, is: (value: unknown) => value is T): readonly T[] {
    const value = this.values[`tokenizer.ggml.${key}`];
    if (Array.isArray(value) && value.every(is)) return value;
    throw this.damaged(key);
  }

  /** The token of an id. */
  token(key: string, tokens: readonly string[]): string {
    const token = tokens[Number(this.values[`tokenizer.ggml.${key}_token_id`] ?? -1)];
    if (token === undefined) throw this.damaged(`${key}_token_id`);
    return token;
  }

  text(key: string): string {
    return String(this.values[`tokenizer.ggml.${key}`]);
  }

  damaged(key: string): TilereelError {
    return new TilereelError(
      `${this.path}: its tokenizer is damaged or of another kind (${quoted(key)}); name a folder with the tokenizer`,
    );
  }
}

const isText = (value: unknown): value is string => typeof value === "string";
const isNumber = (value: unknown): value is number => typeof value === "number";

/**
 * The tokenizer that llama.cpp puts into a text encoder's GGUF file: T5's, or LLaMA 3's.
 *
 * @throws {TilereelError} if it has none, or one of another kind
 */
export async function readGgufTokenizer(file: StoredFile): Promise<TokenizerFiles> {
  const metadata = new Metadata(file.path, await readGgufMetadata(file)), kind = metadata.text("model");
  if (kind === "t5") return unigram(metadata);
  if (kind === "gpt2" && metadata.text("pre") === "llama-bpe") return bytePairs(metadata);
  throw metadata.damaged(kind);
}

function unigram(metadata: Metadata): TokenizerFiles {
  const tokens = metadata.list("tokens", isText), scores = metadata.list("scores", isNumber);
  const types = metadata.list("token_type", isNumber), end = metadata.token("eos", tokens);
  if (scores.length !== tokens.length || types.length !== tokens.length) throw metadata.damaged("scores");
  const pieces = tokens.map((piece, id) => ({ piece, score: scores[id]!, type: types[id]! }));
  const charsmap = Uint8Array.from(metadata.list("precompiled_charsmap", isNumber));
  const unknownId = types.indexOf(UNIGRAM_TYPES.unknown);
  const tokenizer = unigramTokenizer({ pieces, charsmap, unknownId: Math.max(0, unknownId) }, end);
  return { tokenizer, config: { eos_token: end, pad_token: metadata.token("padding", tokens) } };
}

function bytePairs(metadata: Metadata): TokenizerFiles {
  const tokens = metadata.list("tokens", isText), types = metadata.list("token_type", isNumber);
  const merges = metadata.list("merges", isText),
    first = metadata.token("bos", tokens),
    last = metadata.token("eos", tokens);
  const isSpecial = (id: number) => types[id] === UNIGRAM_TYPES.control || types[id] === UNIGRAM_TYPES.userDefined;
  const ids = tokens.map((content, id) => ({ id, content, special: true }));
  const start = { SpecialToken: { id: first, type_id: 0 } };
  return {
    tokenizer: {
      added_tokens: ids.filter(({ id }) => isSpecial(id)),
      normalizer: null,
      pre_tokenizer: {
        type: "Sequence",
        pretokenizers: [
          { type: "Split", pattern: { Regex: WORDS }, behavior: "Isolated", invert: false },
          { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
        ],
      },
      post_processor: { type: "TemplateProcessing", single: [start, { Sequence: { id: "A", type_id: 0 } }] },
      decoder: null,
      model: {
        ...{ type: "BPE", unk_token: null, byte_fallback: false, ignore_merges: true },
        vocab: Object.fromEntries(ids.filter(({ id }) => !isSpecial(id)).map(({ id, content }) => [content, id])),
        merges: merges.map((merge) => merge.split(" ")),
      },
    },
    config: { bos_token: first, eos_token: last, pad_token: last },
  };
}
