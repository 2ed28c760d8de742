/**
 * Converts prompts to the embeddings that condition a transformer.
 *
 * @module
 */
import { quoted, TilereelError } from "../gpu/common/errors.ts";
import type { Gpu } from "../gpu/gpu.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { type HostConditioning, uploadConditioning } from "./conditioning.ts";
import type { ModelFolder } from "./checkpoint/model_folder.ts";
import type { Conditioning, EncodeOptions, PromptEncoder } from "./family.ts";
import type { OpenTextEncoder, TextEncoder } from "./text_encoder.ts";
import { loadTokenizer, type Tokenizer } from "./tokenizer/tokenizer.ts";

/** Embeddings made elsewhere. */
export interface PromptEmbeddings {
  /** [text tokens, text dim], row by row, zero past the prompt's end; or all that the model is conditioned on */
  readonly positive: Float32Array | HostConditioning;
  /** So too; needed with guidance. */
  readonly negative?: Float32Array | HostConditioning;
}

/** What a {@link TextPromptEncoder} is made of. */
export interface TextEncoderParts {
  /** The model's folder, which has the tokenizer. */
  readonly folder: ModelFolder;
  /** Channels that the transformer takes. */
  readonly textDim: number;
  /** Cleans a prompt before it is tokenized. */
  readonly clean: (prompt: string) => string;
  readonly openEncoder: OpenTextEncoder;
}

/** Words that a note names, and their characters. */
const MOST_WORDS = 8, LONGEST_WORD = 30;

/** One tokenizer and one text encoder, opened when they are first needed. */
export class TextPromptEncoder implements PromptEncoder {
  #opened: Promise<{ tokenizer: Tokenizer; encoder: TextEncoder }> | undefined;
  #encoder: TextEncoder | undefined;

  constructor(private readonly gpu: Gpu, private readonly parts: TextEncoderParts) {}

  async encode(
    prompts: readonly string[],
    textTokens: number,
    { onProgress, onNote, signal }: EncodeOptions = {},
  ): Promise<Conditioning[]> {
    const { gpu, parts: { clean } } = this;
    const { tokenizer, encoder } = await (this.#opened ??= this.#open().catch((error) => {
      this.#opened = undefined;
      throw error;
    }));
    const cleaned = prompts.map(clean), encoded = cleaned.map((text) => tokenizer.encode(text, textTokens));
    for (const [i, { lost }] of encoded.entries()) {
      const words = tokenizer.unknownWords(cleaned[i]!);
      const named = words.slice(0, MOST_WORDS).map((word) => quoted(word, LONGEST_WORD)).join(", ");
      const unknown = words.length > MOST_WORDS ? `${named} and ${words.length - MOST_WORDS} more` : named;
      if (unknown) {
        onNote?.(`the model has no word for ${unknown} in ${quoted(prompts[i]!)}, and cannot draw that`);
      }
      if (lost > 0) {
        onNote?.(
          `the model reads ${textTokens} tokens, so the last ${lost} tokens of ${quoted(prompts[i]!)} are not read`,
        );
      }
    }
    // All at once: a large encoder's weights are read from disk anew for every call.
    const stacked = await encoder.encode(encoded, { onProgress, signal });
    try {
      return encoded.map(({ length }, i) => {
        // A copy: a prompt's embeddings may begin where no buffer can be bound.
        const text = gpu.tensor([1, ...stacked.shape.slice(1)]);
        gpu.copy(stacked.slice(i, 1), text);
        return { text, textLength: length };
      });
    } finally {
      gpu.release(stacked);
    }
  }

  [Symbol.dispose](): void {
    this.#encoder?.[Symbol.dispose]();
    this.#encoder = this.#opened = undefined;
  }

  async #open(): Promise<{ tokenizer: Tokenizer; encoder: TextEncoder }> {
    const { gpu, parts: { folder, openEncoder, textDim } } = this;
    const tokenizer = await loadTokenizer(await folder.component("tokenizer"));
    const encoder = this.#encoder = await openEncoder(gpu, textDim);
    return { tokenizer, encoder };
  }
}

/**
 * Uploads embeddings made elsewhere.
 *
 * @param count the number of prompts: 2 with the negative one
 * @param textDim channels that the transformer takes
 * @returns for each prompt a batch of one; the caller's
 * @throws {TilereelError} if one is missing or does not fit
 */
export function uploadEmbeddings(
  gpu: Gpu,
  { positive, negative }: PromptEmbeddings,
  count: number,
  textDim: number,
): Conditioning[] {
  if (count > 1 && !negative) {
    throw new TilereelError(
      "with guidance, embeddings of the negative prompt are needed too: give them, or set guidance to 1",
    );
  }
  const given = [positive, negative!].slice(0, count), all = given.map((one) => "text" in one ? one.text.data : one);
  const { length } = all[0]!;
  if (length === 0 || length % textDim !== 0 || all.some((data) => data.length !== length)) {
    throw new TilereelError(
      `the given embeddings hold ${all.map((data) => data.length).join(" and ")} numbers, but rows of ${textDim} ` +
        `were expected, as many for the negative prompt as for the prompt`,
    );
  }
  return given.map((one) =>
    uploadConditioning(gpu, "text" in one ? one : { text: { data: one, shape: [1, length / textDim, textDim] } })
  );
}

/** The tensors of a pass's conditioning. */
export function tensorsOf({ text, pooled, image, channels }: Conditioning): Tensor[] {
  return [text, pooled, image, channels].filter((tensor) => tensor !== undefined);
}
