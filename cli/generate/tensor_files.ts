import type { HostConditioning } from "../../model/conditioning.ts";
import type { FamilyModel } from "../../model/family.ts";
import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { openSafetensors, readFloat32, type TensorSource } from "../../model/checkpoint/safetensors.ts";
import { readNumbers } from "../../model/checkpoint/tensor_source.ts";
import type { Array5D } from "../../model/pipeline.ts";
import type { PromptEmbeddings } from "../../model/prompt_encoder.ts";
import { whatTensorsAre } from "../../model/checkpoint/tensor_names.ts";

/** Their names in diffusers' pipelines. */
const POSITIVE = "prompt_embeds", NEGATIVE = "negative_prompt_embeds";

/**
 * Reads start noise from a user's safetensors file: the tensor called "latents" or "latents.init", or the only one.
 *
 * @throws {TilereelError} when the file cannot be read or holds no such tensor
 */
export async function readLatents(file: string): Promise<Array5D> {
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
 * Reads embeddings from such a file: the tensor "prompt_embeds" and, where there is one, "negative_prompt_embeds". Where a
 * model takes a prompt as one vector, too, these are "pooled_prompt_embeds" and, where some tokens are padding,
 * "prompt_attention_mask".
 *
 * @param model the channels that it takes
 * @throws {TilereelError} when the file cannot be read, or the tensors are missing or of other shapes
 */
export async function readEmbeddings(
  file: string,
  model: Pick<FamilyModel, "textDim" | "pooledDim">,
): Promise<PromptEmbeddings> {
  using source = await openSafetensors(file, "a safetensors file with embeddings");
  if (!source.has(POSITIVE)) {
    throw new TilereelError(
      `--embeddings ${file} has no tensor "${POSITIVE}", but ${whatTensorsAre(source)}: use that name for ` +
        `the embeddings of the prompt, and "${NEGATIVE}" for those of the negative prompt`,
    );
  }
  const positive = await readPrompt(file, source, "", model), { shape } = positive.text;
  if (!source.has(NEGATIVE)) return { positive };
  const negative = await readPrompt(file, source, "negative_", model), other = negative.text.shape;
  if (other.join() !== shape.join()) {
    throw new TilereelError(
      `--embeddings ${file}: "${NEGATIVE}" has the shape [${other.slice(1).join(", ")}], but that of "${POSITIVE}", ` +
        `[${shape.slice(1).join(", ")}], was expected`,
    );
  }
  return { positive, negative };
}

/** @param prefix of the names of the prompt's tensors */
async function readPrompt(
  file: string,
  source: TensorSource,
  prefix: "" | "negative_",
  { textDim, pooledDim }: Pick<FamilyModel, "textDim" | "pooledDim">,
): Promise<HostConditioning> {
  const name = prefix + POSITIVE, text = await rowsOf(file, source, name, "tokens, channels"), channels = text.shape[2];
  if (channels !== textDim) {
    throw new TilereelError(
      `--embeddings ${file} have ${channels} channels, but the transformer takes ${textDim}: ` +
        `use those of the text encoder that it was trained with`,
    );
  }
  if (pooledDim === undefined) return { text };
  const vector = `${prefix}pooled_prompt_embeds`, mask = `${prefix}prompt_attention_mask`;
  if (!source.has(vector)) {
    throw new TilereelError(
      `--embeddings ${file} has no tensor ${quoted(vector)}, but this model takes a prompt as one vector, too: ` +
        `add it, with [${pooledDim}] numbers`,
    );
  }
  const pooled = await rowsOf(file, source, vector, "channels");
  if (pooled.shape[1] !== pooledDim) {
    throw new TilereelError(
      `--embeddings ${file}: ${quoted(vector)} has ${
        pooled.shape[1]
      } channels, but the transformer takes ${pooledDim}: ` +
        `use that of the text encoder that it was trained with`,
    );
  }
  return { text, pooled, ...source.has(mask) && { textLength: await lengthOf(file, source, mask, text.shape[1]!) } };
}

/** A tensor with a batch of one, which it may lack in the file. */
async function rowsOf(file: string, source: TensorSource, name: string, axes: string): Promise<Array5D> {
  const { data, shape } = await readArray(source, name), count = axes.split(", ").length;
  const own = shape.length === count + 1 && shape[0] === 1 ? shape.slice(1) : shape;
  if (own.length !== count || own.includes(0)) {
    throw new TilereelError(
      `--embeddings ${file}: ${quoted(name)} has the shape [${shape.join(", ")}], ` +
        `but [${axes}] or [1, ${axes}] was expected`,
    );
  }
  return { data, shape: [1, ...own] };
}

/** The number of valid tokens that a mask says: ones, then zeros. */
async function lengthOf(file: string, source: TensorSource, name: string, tokens: number): Promise<number> {
  const mask = await readNumbers(source, name);
  const length = mask.lastIndexOf(1) + 1;
  if (mask.length !== tokens || length === 0 || mask.some((valid, i) => valid !== (i < length ? 1 : 0))) {
    throw new TilereelError(
      `--embeddings ${file}: ${quoted(name)} is no mask of ${tokens} tokens: ` +
        `ones for the prompt's tokens and then zeros were expected`,
    );
  }
  return length;
}

async function readArray(source: TensorSource, name: string): Promise<Array5D> {
  const data = await readFloat32(source, name);
  if (!data.every(Number.isFinite)) {
    throw new TilereelError(
      `${source.path}: ${quoted(name)} has numbers that are not finite, which would make an empty clip: ` +
        `write the file again`,
    );
  }
  return { data, shape: [...source.info(name).shape] };
}
