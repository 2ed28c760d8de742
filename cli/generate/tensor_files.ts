/**
 * Tensors from the user's safetensors files: start noise and encoded prompts.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import { openSafetensors, readFloat32, type TensorSource } from "../../model/checkpoint/safetensors.ts";
import type { PromptEmbeddings } from "../../model/prompt_encoder.ts";
import { whatTensorsAre } from "../../model/checkpoint/tensor_names.ts";

/** Numbers with a shape. */
export interface Array32 {
  readonly data: Float32Array;
  readonly shape: readonly number[];
}

/** A prompt's embeddings as a file holds them. */
export interface EmbeddingsFile {
  /** [1, tokens, channels] or [tokens, channels] */
  readonly positive: Array32;
  /** Of the same shape. */
  readonly negative?: Array32;
}

/** Their names in diffusers' pipelines. */
const POSITIVE = "prompt_embeds", NEGATIVE = "negative_prompt_embeds";

/**
 * Reads start noise: the tensor called "latents" or "latents.init", or the only one.
 *
 * @throws {TilereelError} when the file cannot be read or holds no such tensor
 */
export async function readLatents(file: string): Promise<Array32> {
  using source = await openSafetensors(file, "a safetensors file with start noise");
  const names = source.names();
  const name = ["latents", "latents.init"].find((known) => source.has(known)) ??
    (names.length === 1 ? names[0] : undefined);
  if (name === undefined) {
    throw new TilereelError(
      `--latents ${file} has ${whatTensorsAre(source)}, but no tensor called "latents" or "latents.init": ` +
        `rename the tensor to use`,
    );
  }
  return await readArray(source, name);
}

/**
 * Reads embeddings: the tensors "prompt_embeds" and, where there is one, "negative_prompt_embeds".
 *
 * @throws {TilereelError} when the file cannot be read, or the tensors are missing or of other shapes
 */
export async function readEmbeddings(file: string): Promise<EmbeddingsFile> {
  using source = await openSafetensors(file, "a safetensors file with embeddings");
  if (!source.has(POSITIVE)) {
    throw new TilereelError(
      `--embeddings ${file} has no tensor "${POSITIVE}", but ${whatTensorsAre(source)}: use that name for ` +
        `the embeddings of the prompt, and "${NEGATIVE}" for those of the negative prompt`,
    );
  }
  const positive = await readArray(source, POSITIVE);
  const { shape } = positive;
  if (!(shape.length === 2 || shape.length === 3 && shape[0] === 1) || shape.includes(0)) {
    throw new TilereelError(
      `--embeddings ${file}: "${POSITIVE}" has the shape [${shape.join(", ")}], but [tokens, channels] or ` +
        `[1, tokens, channels] was expected`,
    );
  }
  if (!source.has(NEGATIVE)) return { positive };
  const negative = await readArray(source, NEGATIVE);
  if (negative.shape.join() !== shape.join()) {
    throw new TilereelError(
      `--embeddings ${file}: "${NEGATIVE}" has the shape [${negative.shape.join(", ")}], but that of "${POSITIVE}", ` +
        `[${shape.join(", ")}], was expected`,
    );
  }
  return { positive, negative };
}

/**
 * Embeddings from a file, for a model.
 *
 * @throws {TilereelError} if they are another encoder's
 */
export function fittingEmbeddings(
  path: string,
  { positive, negative }: EmbeddingsFile,
  textDim: number,
): PromptEmbeddings {
  const channels = positive.shape.at(-1);
  if (channels !== textDim) {
    throw new TilereelError(
      `--embeddings ${path} have ${channels} channels, but the transformer takes ${textDim}: ` +
        `use those of the text encoder that it was trained with`,
    );
  }
  return { positive: positive.data, ...negative && { negative: negative.data } };
}

async function readArray(source: TensorSource, name: string): Promise<Array32> {
  const data = await readFloat32(source, name);
  if (!data.every(Number.isFinite)) {
    throw new TilereelError(
      `${source.path}: "${name}" has numbers that are not finite, which would make an empty clip: write the file again`,
    );
  }
  return { data, shape: [...source.info(name).shape] };
}
