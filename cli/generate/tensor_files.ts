import { TilereelError } from "../../gpu/common/errors.ts";
import { openSafetensors, readFloat32, type TensorSource } from "../../model/checkpoint/safetensors.ts";
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
 * Reads embeddings from such a file: the tensors "prompt_embeds" and, where there is one, "negative_prompt_embeds".
 *
 * @param textDim the channels that the model takes
 * @throws {TilereelError} when the file cannot be read, or the tensors are missing or of other shapes
 */
export async function readEmbeddings(file: string, textDim: number): Promise<PromptEmbeddings> {
  using source = await openSafetensors(file, "a safetensors file with embeddings");
  if (!source.has(POSITIVE)) {
    throw new TilereelError(
      `--embeddings ${file} has no tensor "${POSITIVE}", but ${whatTensorsAre(source)}: use that name for ` +
        `the embeddings of the prompt, and "${NEGATIVE}" for those of the negative prompt`,
    );
  }
  const { data: positive, shape } = await readArray(source, POSITIVE), channels = shape.at(-1);
  if (!(shape.length === 2 || shape.length === 3 && shape[0] === 1) || shape.includes(0)) {
    throw new TilereelError(
      `--embeddings ${file}: "${POSITIVE}" has the shape [${shape.join(", ")}], but [tokens, channels] or ` +
        `[1, tokens, channels] was expected`,
    );
  }
  if (channels !== textDim) {
    throw new TilereelError(
      `--embeddings ${file} have ${channels} channels, but the transformer takes ${textDim}: ` +
        `use those of the text encoder that it was trained with`,
    );
  }
  if (!source.has(NEGATIVE)) return { positive };
  const { data: negative, shape: other } = await readArray(source, NEGATIVE);
  if (other.join() !== shape.join()) {
    throw new TilereelError(
      `--embeddings ${file}: "${NEGATIVE}" has the shape [${other.join(", ")}], but that of "${POSITIVE}", ` +
        `[${shape.join(", ")}], was expected`,
    );
  }
  return { positive, negative };
}

async function readArray(source: TensorSource, name: string): Promise<Array5D> {
  const data = await readFloat32(source, name);
  if (!data.every(Number.isFinite)) {
    throw new TilereelError(
      `${source.path}: "${name}" has numbers that are not finite, which would make an empty clip: write the file again`,
    );
  }
  return { data, shape: [...source.info(name).shape] };
}
