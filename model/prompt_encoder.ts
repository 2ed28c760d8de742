import { quoted, TilereelError } from "../gpu/common/errors.ts";
import type { Gpu } from "../gpu/gpu.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { TensorOwner } from "../gpu/tensor_owner.ts";
import { type HostConditioning, uploadConditioning } from "./conditioning.ts";
import type { ModelFolder } from "./checkpoint/model_folder.ts";
import type { FileStore } from "./files/store.ts";
import type { Conditioning, EncodeOptions, FamilyModel, PromptEncoder, PromptEncoderOptions } from "./family.ts";
import type { TextEncoder } from "./text_encoder.ts";
import type { WeightOptions } from "./weights/weight_options.ts";
import { loadTokenizer, type Tokenizer } from "./tokenizer/tokenizer.ts";

/** Embeddings made elsewhere. */
export interface PromptEmbeddings {
  /** [text tokens, text dim], row by row, zero past the prompt's end; or all that the model is conditioned on */
  readonly positive: Float32Array | HostConditioning;
  /** So too; needed with guidance. */
  readonly negative?: Float32Array | HostConditioning;
}

/** A tokenizer and the text encoder behind it. */
export interface TextEncoderPart {
  /** The names of their parts in the model's folder: "tokenizer" and "text_encoder". */
  readonly tokenizer: string;
  readonly encoder: string;
  /** Cleans a prompt before it is tokenized, or writes it into a template. */
  readonly prepare: (prompt: string) => string;
  /** The number of tokens that a prompt is padded or cut to. Default: as asked for */
  readonly tokens?: (textTokens: number) => number;
  readonly open: (gpu: Gpu, folder: FileStore, options: WeightOptions | undefined) => Promise<TextEncoder>;
}

/** The parts of a {@link TextPromptEncoder}. */
export interface TextEncoderParts extends PromptEncoderOptions {
  readonly folder: ModelFolder;
  /** Channels of the text that the transformer takes. */
  readonly textDim: number;
  /** The first one makes `text`: what it does not see of a prompt is noted. Others add `pooled`. */
  readonly encoders: readonly TextEncoderPart[];
}

/** Words that a note names, and their characters. */
const MOST_WORDS = 8, LONGEST_WORD = 30;

type OpenedPart = Omit<TextEncoderPart, "tokenizer" | "encoder" | "open"> & {
  readonly tokenizer: Tokenizer;
  readonly encoder: TextEncoder;
};

/** Converts prompts to embeddings. Tokenizers and text encoders are opened when they are first needed. */
export class TextPromptEncoder implements PromptEncoder {
  #opened: Promise<readonly OpenedPart[]> | undefined;
  #encoders = new DisposableStack();

  constructor(private readonly gpu: Gpu, private readonly parts: TextEncoderParts) {}

  async encode(
    prompts: readonly string[],
    textTokens: number,
    { onProgress, onNote, signal }: EncodeOptions = {},
  ): Promise<Conditioning[]> {
    const { gpu } = this;
    const opened = await (this.#opened ??= this.#open().catch((error) => {
      this.#opened = undefined;
      throw error;
    }));
    using owned = new TensorOwner(gpu);
    const made = prompts.map((): Partial<Conditioning> => ({}));
    for (const [part, { tokenizer, encoder, prepare, tokens }] of opened.entries()) {
      const texts = prompts.map(prepare),
        encoded = texts.map((text) => tokenizer.encode(text, tokens?.(textTokens) ?? textTokens));
      if (part === 0 && onNote) {
        for (const [i, { lost }] of encoded.entries()) {
          unseen(prompts[i]!, tokenizer.unknownWords(texts[i]!), lost, textTokens).forEach(onNote);
        }
      }
      // All at once: a large encoder's weights are read from disk anew for every call.
      const { text, pooled, lengths } = await encoder.encode(encoded, { onProgress, signal });
      const stacked = Object.entries({ text, pooled }).filter((entry): entry is [string, Tensor] => !!entry[1]);
      for (const [, tensor] of stacked) owned.adopt(tensor);
      for (const [i, { length }] of encoded.entries()) {
        const own = stacked.map(([name, tensor]) => [name, owned.adopt(batchItem(gpu, tensor, i))]);
        Object.assign(made[i]!, Object.fromEntries(own), text && { textLength: lengths?.[i] ?? length });
      }
      owned.free(...stacked.map(([, tensor]) => tensor));
    }
    const conditionings = made as Conditioning[];
    for (const tensor of conditionings.flatMap(tensorsOf)) owned.disown(tensor);
    return conditionings;
  }

  [Symbol.dispose](): void {
    this.#encoders.dispose();
    this.#encoders = new DisposableStack();
    this.#opened = undefined;
  }

  async #open(): Promise<OpenedPart[]> {
    const { gpu, parts: { folder, encoders, textDim, openEncoder, weightOptions } } = this;
    using loading = new DisposableStack();
    const opened: OpenedPart[] = [];
    for (const [i, { open, ...part }] of encoders.entries()) {
      const tokenizer = await loadTokenizer(await folder.component(part.tokenizer));
      const encoder = i === 0 && openEncoder
        ? await openEncoder(gpu, textDim)
        : await open(gpu, await folder.component(part.encoder), weightOptions?.(part.encoder));
      opened.push({ ...part, tokenizer, encoder: loading.use(encoder) });
    }
    this.#encoders = loading.move();
    return opened;
  }
}

/** A copy of one item of a batch: the item itself may begin where no buffer can be bound. */
function batchItem(gpu: Gpu, stacked: Tensor, index: number): Tensor {
  const item = gpu.tensor([1, ...stacked.shape.slice(1)]);
  gpu.copy(stacked.slice(index, 1), item);
  return item;
}

/** Clauses about what the model does not see of a prompt. */
function unseen(prompt: string, unknownWords: readonly string[], lost: number, textTokens: number): string[] {
  const clauses: string[] = [], more = unknownWords.length - MOST_WORDS;
  if (unknownWords.length > 0) {
    const named = unknownWords.slice(0, MOST_WORDS).map((word) => quoted(word, LONGEST_WORD)).join(", ");
    const words = more > 0 ? `${named} and ${more} more` : named;
    clauses.push(`the model has no word for ${words} in ${quoted(prompt)}, and cannot draw that`);
  }
  if (lost > 0) {
    clauses.push(`the model reads ${textTokens} tokens, so the last ${lost} tokens of ${quoted(prompt)} are not read`);
  }
  return clauses;
}

/**
 * Uploads embeddings made elsewhere.
 *
 * @param count the number of prompts: 2 with the negative one
 * @param model channels that the transformer takes
 * @returns for each prompt a batch of one; the caller's
 * @throws {TilereelError} if one is missing or does not fit
 */
export function uploadEmbeddings(
  gpu: Gpu,
  { positive, negative }: PromptEmbeddings,
  count: number,
  { textDim, pooledDim, seesPadding = false }: Pick<FamilyModel, "textDim" | "pooledDim" | "seesPadding">,
): Conditioning[] {
  if (count > 1 && !negative) {
    throw new TilereelError(
      "with guidance, embeddings of the negative prompt are needed too: give them, too, or set guidance to 1",
    );
  }
  const given = [positive, negative!].slice(0, count), all = given.map((one) => "text" in one ? one.text.data : one);
  const { length } = all[0]!;
  if (length === 0 || length % textDim !== 0 || all.some((data) => data.length !== length)) {
    throw new TilereelError(
      `the given embeddings hold ${all.map((data) => data.length).join(" and ")} numbers, but rows of ${textDim} ` +
        `were expected, the same number for both prompts`,
    );
  }
  if (pooledDim !== undefined && given.some((one) => !("text" in one && one.pooled?.data.length === pooledDim))) {
    throw new TilereelError(
      `this model needs each prompt as one vector of ${pooledDim} channels beside its text embeddings; give it as pooled`,
    );
  }
  return given.map((one) => {
    const whole = "text" in one ? one : { text: { data: one, shape: [1, length / textDim, textDim] } };
    const known = seesPadding && { textLength: rowsBeforeZeros(whole.text.data, textDim) };
    return uploadConditioning(gpu, { ...whole, ...known });
  });
}

/** The number of rows before those at the end that have nothing but zeros. */
function rowsBeforeZeros(data: Float32Array, width: number): number {
  return Math.ceil((data.findLastIndex((number) => number !== 0) + 1) / width);
}

/** The tensors of a pass's conditioning. */
export function tensorsOf({ text, pooled, image, channels, frames }: Conditioning): Tensor[] {
  return [text, pooled, image, channels, frames].filter((tensor) => tensor !== undefined);
}
