import {
  ByteLevelPreTokenizer,
  type Normalizer,
  type PreTokenizer,
  SequenceNormalizer,
  SequencePreTokenizer,
  type Tokenizer,
  Unigram,
} from "@huggingface/tokenizers";
import { charsmapNormalizer } from "./charsmap.ts";

/** Corrects `@huggingface/tokenizers` where its ids differ from those of the Rust library that Python uses. */
export function correct({ normalizer, pre_tokenizer, model }: Tokenizer, splits: boolean): void {
  if (normalizer) correctNormalizer(normalizer);
  if (pre_tokenizer) correctPreTokenizer(pre_tokenizer);
  if (model instanceof Unigram) correctUnigram(model, splits);
}

function correctNormalizer(normalizer: Normalizer): void {
  if (normalizer instanceof SequenceNormalizer) {
    return normalizer.normalizers.forEach((of) => of && correctNormalizer(of));
  }
  const { config } = normalizer;
  if (config.type === "Precompiled") {
    // The library has an approximation.
    normalizer.normalize = charsmapNormalizer(Uint8Array.fromBase64(config.precompiled_charsmap));
  }
  if (config.type === "Strip") {
    // JavaScript's own trimming takes other characters for white space; so does its `\s`, see below.
    normalizer.normalize = (text) => {
      if (config.strip_left) text = text.replace(/^\p{White_Space}+/u, "");
      return config.strip_right ? text.replace(/\p{White_Space}+$/u, "") : text;
    };
  }
  if (config.type === "Lowercase") {
    // Each character separately: JavaScript's own conversion would treat a sigma at the end of a word differently.
    normalizer.normalize = (text) => [...text].map((char) => char.toLowerCase()).join("");
  }
}

function correctPreTokenizer(splitter: PreTokenizer): void {
  if (splitter instanceof SequencePreTokenizer) splitter.tokenizers.forEach((of) => of && correctPreTokenizer(of));
  if (splitter instanceof ByteLevelPreTokenizer) {
    const { source, flags } = splitter.pattern;
    const unicode = source.replaceAll("\\s", "\\p{White_Space}").replaceAll("\\S", "\\P{White_Space}");
    splitter.pattern = new RegExp(unicode, flags);
  }
}

const ENCODER = new TextEncoder();

function correctUnigram(model: Unigram, splits: boolean): void {
  const { vocab, scores, tokens_to_ids: ids, unk_token_id } = model,
    { byte_fallback } = model.config as { byte_fallback?: boolean };
  if (!vocab.every((piece) => typeof piece === "string") || !scores.every(Number.isFinite) || !vocab[unk_token_id!]) {
    throw new RangeError("the vocabulary is not a list of pieces with scores");
  }
  const bytesOf = (piece: string) => {
    const bytes = Array.from(
      ENCODER.encode(piece),
      (byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
    );
    return bytes.every((byte) => ids.has(byte)) ? bytes : [piece];
  };
  const encode = model.encode.bind(model);
  model.encode = (texts) => {
    // Each word by itself: among splits of equal scores, rounding would decide otherwise in a longer text.
    const pieces = encode(splits ? texts.flatMap((text) => text.split(/(?=▁)/)) : texts);
    return byte_fallback ? pieces.flatMap((piece) => ids.has(piece) ? [piece] : bytesOf(piece)) : pieces;
  };
}
