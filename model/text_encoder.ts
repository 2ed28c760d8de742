import { TilereelError } from "../gpu/common/errors.ts";
import type { Gpu } from "../gpu/gpu.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { OnProgress } from "./progress.ts";

/** A prompt as the tokenizer leaves it. */
export interface TokenizedPrompt {
  /** Token ids, padded to the number of text tokens. */
  readonly ids: Int32Array;
  /** How many of them are the prompt's, its end token included; at least one. */
  readonly length: number;
}

/** Options of {@link TextEncoder.encode}. */
export interface TextEncodeOptions {
  /** Told "encode prompt". */
  readonly onProgress?: OnProgress | undefined;
  /** Ends the work: before the next block where the encoder runs block by block, else before or after it runs. */
  readonly signal?: AbortSignal | undefined;
}

/** What a text encoder makes of prompts: parts of what a transformer is conditioned on (`Conditioning`), in a batch. */
export interface EncodedPrompts {
  /** [prompts, tokens, text dim], f32 */
  readonly text?: Tensor;
  /** For each prompt the number of tokens of `text` that are its own. Default: as tokenized */
  readonly lengths?: readonly number[];
  /** [prompts, channels], f32: each prompt as one vector */
  readonly pooled?: Tensor;
}

/** Turns tokens into the embeddings that a transformer is conditioned on. The pipeline knows text encoders by it. */
export interface TextEncoder extends Disposable {
  /**
   * @param prompts at least one, all padded to the same number of tokens
   * @returns the caller's
   * @throws {TilereelError} if weights cannot be read or used, memory runs out, or the tokens don't fit the encoder
   * @throws the signal's reason, if it is aborted
   */
  encode(prompts: readonly TokenizedPrompt[], options?: TextEncodeOptions): Promise<EncodedPrompts>;
}

/**
 * Opens a text encoder that makes `text`.
 *
 * @param textDim channels of a text embedding that the transformer takes
 * @throws {TilereelError} if it is missing, damaged, or made for another transformer
 */
export type OpenTextEncoder = (gpu: Gpu, textDim: number) => Promise<TextEncoder>;

/** The prompts' ids, one behind the other. */
export function joinIds(prompts: readonly TokenizedPrompt[]): { ids: Int32Array<ArrayBuffer>; tokens: number } {
  const tokens = prompts[0]?.ids.length ?? 0;
  if (tokens === 0 || prompts.some(({ ids, length }) => ids.length !== tokens || length < 1 || length > tokens)) {
    throw new RangeError("prompts must be padded to the same number of tokens and not be empty");
  }
  const ids = new Int32Array(prompts.length * tokens);
  for (const [i, prompt] of prompts.entries()) ids.set(prompt.ids, i * tokens);
  return { ids, tokens };
}

/**
 * Checks that a text encoder makes what a transformer takes.
 *
 * @param path the encoder's file, for the message
 * @throws {TilereelError} if the widths differ
 */
export function checkTextDim(path: string, actual: number, expected: number): void {
  if (actual !== expected) {
    throw new TilereelError(
      `${path} makes text embeddings of ${actual} channels, but the transformer takes ${expected}; ` +
        `use the text encoder that the transformer was trained with`,
    );
  }
}
