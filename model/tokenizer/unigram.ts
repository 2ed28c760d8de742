/**
 * The Unigram model: a text is split into pieces of a vocabulary so that the sum of their scores is largest.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import type { TokenizerModel } from "./model.ts";

/** A vocabulary, and how text outside it is encoded. */
export interface UnigramVocabulary {
  /** Pieces and their scores, by id. Of two equal pieces, the last one counts. */
  readonly pieces: readonly (readonly [piece: string, score: number])[];
  /** The id of unknown characters. */
  readonly unknownId: number;
  /** Whether unknown characters become UTF-8 bytes, as pieces `<0x00>` to `<0xFF>`, if the vocabulary has them. */
  readonly byteFallback: boolean;
}

/** How far the score of an unknown character is below the worst piece's. */
const UNKNOWN_PENALTY = 10;
const ENCODER = new TextEncoder();

/** Encodes as the Unigram model of Hugging Face's tokenizers does. */
export class Unigram implements TokenizerModel {
  readonly #ids = new Map<string, number>();
  readonly #scores: Float64Array;
  /** UTF-16 units of the longest piece that begins with a unit. */
  readonly #longest = new Map<string, number>();
  readonly #unknownScore: number;
  readonly unknownId: number;
  /** The ids of bytes; undefined without byte fallback. */
  readonly #bytes: readonly (number | undefined)[] | undefined;

  constructor({ pieces, unknownId, byteFallback }: UnigramVocabulary) {
    this.#scores = new Float64Array(pieces.length);
    let least = Infinity;
    for (const [id, [piece, score]] of pieces.entries()) {
      this.#ids.set(piece, id);
      this.#scores[id] = score;
      least = Math.min(least, score);
      const first = piece.charAt(0);
      if ((this.#longest.get(first) ?? 0) < piece.length) this.#longest.set(first, piece.length);
    }
    this.#unknownScore = least - UNKNOWN_PENALTY;
    this.unknownId = unknownId;
    this.#bytes = byteFallback
      ? Array.from(
        { length: 256 },
        (_, byte) => this.#ids.get(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`),
      )
      : undefined;
  }

  /**
   * The model that `tokenizer.json` describes.
   *
   * @param what names the file in messages
   * @throws {TilereelError} if it is damaged
   */
  static ofJson(json: Readonly<Record<string, unknown>>, what: string): Unigram {
    const { vocab, unk_id: unknownId, byte_fallback } = json;
    const isPiece = (entry: unknown) =>
      Array.isArray(entry) && typeof entry[0] === "string" && typeof entry[1] === "number";
    if (!Array.isArray(vocab) || vocab.length === 0 || !vocab.every(isPiece) || typeof unknownId !== "number") {
      throw new TilereelError(`${what}: its vocabulary is not a list of pieces with scores; download it again`);
    }
    return new Unigram({ pieces: vocab, unknownId, byteFallback: byte_fallback === true });
  }

  idOf(piece: string): number | undefined {
    return this.#ids.get(piece);
  }

  /** The ids of a text. Consecutive unknown characters become one unknown id. */
  encode(text: string): number[] {
    const path = this.#bestPath(text), ids: number[] = [];
    for (let i = 0; i < path.length; i++) {
      const { id, from, to } = path[i]!;
      if (id !== this.unknownId) {
        ids.push(id);
        continue;
      }
      let end = to;
      while (path[i + 1]?.id === this.unknownId) end = path[++i]!.to;
      ids.push(...this.#unknown(text.slice(from, end)));
    }
    return ids;
  }

  #unknown(text: string): number[] {
    const known = this.#ids.get(text);
    if (known !== undefined) return [known];
    const bytes = this.#bytes && Array.from(ENCODER.encode(text), (byte) => this.#bytes![byte]);
    return bytes?.every((id) => id !== undefined) ? bytes : [this.unknownId];
  }

  /** The pieces of the best split of the text, in order (Viterbi). Of splits with equal scores, the first one wins. */
  #bestPath(text: string): { id: number; from: number; to: number }[] {
    const { length } = text;
    const scores = new Float64Array(length + 1), froms = new Int32Array(length + 1).fill(-1);
    const ids = new Int32Array(length + 1);
    const offer = (from: number, to: number, id: number, score: number) => {
      if (froms[to]! >= 0 && score <= scores[to]!) return;
      scores[to] = score;
      froms[to] = from;
      ids[to] = id;
    };
    for (let from = 0; from < length;) {
      const char = text.codePointAt(from)! > 0xffff ? 2 : 1, here = scores[from]!;
      const furthest = Math.min(length, from + (this.#longest.get(text.charAt(from)) ?? 0));
      let single = false;
      for (let to = from + char; to <= furthest; to++) {
        const id = this.#ids.get(text.slice(from, to));
        if (id === undefined) continue;
        offer(from, to, id, here + this.#scores[id]!);
        single ||= to === from + char;
      }
      if (!single) offer(from, from + char, this.unknownId, here + this.#unknownScore);
      from += char;
    }
    const path = [];
    for (let to = length; to > 0; to = froms[to]!) path.push({ id: ids[to]!, from: froms[to]!, to });
    return path.reverse();
  }
}
