/**
 * `spiece.model`: a SentencePiece model, which is one message of Protocol Buffers (sentencepiece_model.proto).
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";

/** What of a Unigram model is needed to encode. */
export interface SentencePieceModel {
  readonly pieces: readonly { readonly piece: string; readonly score: number; readonly type: number }[];
  readonly unknownId: number;
  /** See `charsmapNormalizer`; empty if there is none. */
  readonly charsmap: Uint8Array;
}

/** Types of pieces that stand for themselves in a text, whatever is around them: control and user-defined. */
export const STANDALONE_TYPES: readonly number[] = [3, 4];
const NORMAL = 1, UNIGRAM = 1;

const DECODER = new TextDecoder("utf-8", { fatal: true });

/**
 * Reads the message.
 *
 * @param what names the file in messages
 * @throws {TilereelError} if it is none, or not of a Unigram model
 */
export function parseSentencePiece(bytes: Uint8Array, what: string): SentencePieceModel {
  try {
    const model = read(bytes);
    if (model.pieces.length === 0) throw new RangeError("no pieces");
    if (model.kind === UNIGRAM) return model;
  } catch (cause) {
    throw new TilereelError(`${what} is not a SentencePiece model, or it is damaged; download it again`, { cause });
  }
  throw new TilereelError(`${what} is a SentencePiece model of another kind than Unigram, which was expected`);
}

function read(bytes: Uint8Array): SentencePieceModel & { readonly kind: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const pieces: SentencePieceModel["pieces"][number][] = [];
  let kind = UNIGRAM, unknownId = 0, charsmap: Uint8Array = new Uint8Array();
  eachField(bytes, 0, bytes.length, (part, from, to) => {
    if (part === 1) {
      let piece = "", score = 0, type = NORMAL;
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
