/**
 * Converts prompts to the embeddings that condition a transformer.
 *
 * @module
 */
import { quoted, TilereelError } from "../gpu/common/errors.ts";
import type { Gpu } from "../gpu/gpu.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { ModelFolder } from "./checkpoint/model_folder.ts";
import { openOnnxTextEncoder } from "./onnx/text_encoder.ts";
import type { TextEncodeOptions, TextEncoder } from "./text_encoder.ts";
import { cleanPrompt } from "./wan/prompt.ts";
import { loadTokenizer, type Tokenizer } from "./tokenizer/tokenizer.ts";
import { openUmt5Encoder } from "./umt5/encoder.ts";
import type { WeightDtypeChoice } from "./weight_dtype.ts";

/** Embeddings made elsewhere, zero past the prompt's end. */
export interface PromptEmbeddings {
  /** [text tokens, text dim], row by row */
  readonly positive: Float32Array;
  /** So too; needed with guidance. */
  readonly negative?: Float32Array;
}

/** Where the text encoder comes from. */
export interface TextEncoderChoice {
  /** Channels that the transformer takes. */
  readonly textDim: number;
  /** An ONNX file to run instead of the model's own encoder. */
  readonly onnx: string | undefined;
  /** In which format the GPU holds its matrices. Default: "auto". */
  readonly dtype?: WeightDtypeChoice | undefined;
}

/** What {@link PromptEncoder.encode} may be told. */
export interface EncodeOptions extends TextEncodeOptions {
  /** Used instead. */
  readonly embeddings?: PromptEmbeddings;
  readonly onNote?: (note: string) => void;
}

/** Words that a note names, and their characters. */
const MOST_WORDS = 8, LONGEST_WORD = 30;

/** A model's tokenizer and text encoder, opened when they are first needed. */
export class PromptEncoder {
  #opened: Promise<{ tokenizer: Tokenizer; encoder: TextEncoder }> | undefined;
  #encoder: TextEncoder | undefined;

  constructor(
    private readonly gpu: Gpu,
    private readonly folder: ModelFolder,
    private readonly choice: TextEncoderChoice,
  ) {}

  /**
   * Embeds prompts.
   *
   * @param textTokens tokens that each prompt is padded or cut to
   * @param options `onNote` is told in a clause what of a prompt the model does not see
   * @returns [prompts, text tokens, text dim], f32; the caller's
   * @throws {TilereelError} if there is no encoder, it does not fit the transformer, or given embeddings do not
   * @throws the signal's reason, if it is aborted
   */
  async encode(
    prompts: readonly string[],
    textTokens: number,
    { embeddings, onProgress, onNote, signal }: EncodeOptions = {},
  ): Promise<Tensor> {
    if (embeddings) return this.#upload(embeddings, prompts.length);
    const { tokenizer, encoder } = await (this.#opened ??= this.#open().catch((error) => {
      this.#opened = undefined;
      throw error;
    }));
    const cleaned = prompts.map(cleanPrompt), encoded = cleaned.map((text) => tokenizer.encode(text, textTokens));
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
    return await encoder.encode(encoded, { onProgress, signal });
  }

  /** Frees what was opened. */
  release(): void {
    this.#encoder?.release();
    this.#encoder = this.#opened = undefined;
  }

  async #open(): Promise<{ tokenizer: Tokenizer; encoder: TextEncoder }> {
    const { gpu, folder, choice: { textDim, onnx, dtype } } = this;
    const tokenizer = await loadTokenizer(await folder.component("tokenizer"));
    const encoder = onnx === undefined
      ? await openUmt5Encoder(gpu, await folder.component("text_encoder"), textDim, dtype)
      : await openOnnxTextEncoder(gpu, onnx, textDim);
    this.#encoder = encoder;
    return { tokenizer, encoder };
  }

  #upload({ positive, negative }: PromptEmbeddings, count: number): Tensor {
    const { textDim } = this.choice;
    if (count > 1 && !negative) {
      throw new TilereelError(
        "with guidance, embeddings of the negative prompt are needed too: give them, or set guidance to 1",
      );
    }
    const all = [positive, negative].slice(0, count) as Float32Array[];
    const [{ length }] = all as [Float32Array];
    if (length === 0 || length % textDim !== 0 || all.some((data) => data.length !== length)) {
      throw new TilereelError(
        `the given embeddings hold ${all.map((data) => data.length).join(" and ")} numbers, but rows of ${textDim} ` +
          `were expected, as many for the negative prompt as for the prompt`,
      );
    }
    const stacked = new Float32Array(count * length);
    all.forEach((data, i) => stacked.set(data, i * length));
    return this.gpu.upload(stacked, [count, length / textDim, textDim]);
  }
}
