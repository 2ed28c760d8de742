import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { expectKind, LOOK_AT, recogniseBytes } from "../checkpoint/recognise.ts";
import { readBytes, type StoredFile } from "../files/store.ts";

/** The parts of a Unigram model that encoding needs. */
export interface UnigramModel {
  readonly pieces: readonly { readonly piece: string; readonly score: number; readonly type: number }[];
  readonly unknownId: number;
  /** See `charsmapNormalizer`; empty if there is none. */
  readonly charsmap: Uint8Array;
}

/** What a file holds. */
interface SentencePieceModel extends UnigramModel {
  readonly kind: number;
}

/** Types of pieces, in SentencePiece's files and in GGUF. */
export const UNIGRAM_TYPES = { normal: 1, unknown: 2, control: 3, userDefined: 4 } as const;

/** A limit above that of the largest vocabularies, which have 5 MB. */
const LARGEST_MODEL = 2 ** 25;

/** Types of pieces that stand for themselves in a text, whatever is around them: control and user-defined. */
const STANDALONE_TYPES: readonly number[] = [UNIGRAM_TYPES.control, UNIGRAM_TYPES.userDefined];
const UNIGRAM = 1;

const DECODER = new TextDecoder("utf-8", { fatal: true });

/**
 * Reads a SentencePiece model, `spiece.model`, of T5's kind (Unigram). It is one message of Protocol Buffers
 * (sentencepiece_model.proto).
 *
 * @param endToken ends each text
 * @returns the `tokenizer.json` that transformers' converter makes of it, but never with the fallback to bytes
 * @throws {TilereelError} if the file is missing, damaged, or of another kind
 */
export async function readSentencePiece(file: StoredFile, endToken: string): Promise<object> {
  const { path } = file, model = parse(await readBytes(file, "a SentencePiece model", LARGEST_MODEL), path);
  if (!model.pieces.some(({ piece }) => piece === endToken)) {
    throw new TilereelError(`${path} has no token ${quoted(endToken)} to end a text with`);
  }
  return unigramTokenizer(model, endToken);
}

/** The `tokenizer.json` of a model. */
export function unigramTokenizer({ pieces, unknownId, charsmap }: UnigramModel, endToken: string): object {
  const mapped = charsmap.length > 0 ? [{ type: "Precompiled", precompiled_charsmap: charsmap.toBase64() }] : [];
  return {
    added_tokens: pieces.map(({ piece, type }, id) => ({ id, content: piece, special: true, type })).filter(
      ({ id, type }) => STANDALONE_TYPES.includes(type) || id === unknownId,
    ),
    normalizer: {
      type: "Sequence",
      normalizers: [
        ...mapped,
        { type: "Strip", strip_left: false, strip_right: true },
        { type: "Replace", pattern: { Regex: " {2,}" }, content: "▁" },
      ],
    },
    pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme: "always" },
    model: { type: "Unigram", unk_id: unknownId, vocab: pieces.map(({ piece, score }) => [piece, score]) },
    post_processor: {
      type: "TemplateProcessing",
      single: [{ Sequence: { id: "A", type_id: 0 } }, { SpecialToken: { id: endToken, type_id: 0 } }],
    },
    decoder: null,
  };
}

function parse(bytes: Uint8Array, path: string): SentencePieceModel {
  // Such models have no mark of their own.
  expectKind(path, recogniseBytes(bytes.subarray(0, LOOK_AT)), ["unknown"], "a SentencePiece model");
  try {
    const model = read(bytes);
    if (model.pieces.length === 0) throw new RangeError("no pieces");
    if (model.kind === UNIGRAM) return model;
  } catch (cause) {
    throw new TilereelError(`${path} is not a SentencePiece model, or it is damaged; download it again`, { cause });
  }
  throw new TilereelError(`${path} is a SentencePiece model of another kind than Unigram, which was expected`);
}

function read(bytes: Uint8Array): SentencePieceModel {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const pieces: SentencePieceModel["pieces"][number][] = [];
  let kind = UNIGRAM, unknownId = 0, charsmap: Uint8Array = new Uint8Array();
  eachField(bytes, 0, bytes.length, (part, from, to) => {
    if (part === 1) {
      let piece = "", score = 0, type: number = UNIGRAM_TYPES.normal;
      eachField(bytes, from, to, (field, start, end) => {
        if (field === 1) piece = DECODER.decode(bytes.subarray(start, end));
        if (field === 2) score = view.getFloat32(start, true);
        if (field === 3) type = end;
      });
      pieces.push({ piece, score, type });
    }
    if (part === 2) {
      eachField(bytes, from, to, (field, _, value) => {
        if (field === 3) kind = value;
        if (field === 40) unknownId = value;
      });
    }
    if (part === 3) {
      eachField(bytes, from, to, (field, start, end) => {
        if (field === 2) charsmap = bytes.subarray(start, end);
      });
    }
  });
  return { pieces, unknownId, charsmap, kind };
}

/**
 * Goes through the fields of a message.
 *
 * @param onField told the field's number, and where its bytes begin and end; of a whole number `end` is the number
 */
function eachField(
  bytes: Uint8Array,
  from: number,
  to: number,
  onField: (field: number, start: number, end: number) => void,
): void {
  let at = from;
  const varint = () => {
    let value = 0;
    for (let factor = 1;; factor *= 128) {
      if (at >= to) throw new RangeError("a message ends early");
      const byte = bytes[at++]!;
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < to) {
    const tag = varint(), wire = tag & 7, field = Math.floor(tag / 8);
    if (wire === 0) {
      onField(field, at, varint());
      continue;
    }
    if (wire !== 1 && wire !== 2 && wire !== 5) throw new RangeError("an unknown wire type");
    const length = wire === 1 ? 8 : wire === 5 ? 4 : varint();
    if (at + length > to) throw new RangeError("a message ends early");
    onField(field, at, at += length);
  }
}
