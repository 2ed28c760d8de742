import type { ModelFolder } from "../checkpoint/model_folder.ts";
import { fileOf } from "../files/disk.ts";
import type { FileStore, StoredFile } from "../files/store.ts";
import type { ModelVariant } from "../model_variant.ts";
import { modelDigest, sha256 } from "./digest.ts";
import { fileIdentity, sharedName } from "./file_identity.ts";

/**
 * Everything in a model that changes its results: the key of all caches of results, and a part of clips' records. What
 * is used in place of a part has a key, such as `transformer` or `textEncoder`, and its digest another,
 * `transformerDigest`. Where there is a digest, the name does not count.
 */
export interface ModelIdentity {
  /** Of all parts in the model's folder that are used. */
  readonly modelDigest: string;
  /** Only a format that rounds the weights: "auto" and "stored" change no product. */
  readonly weightDtype?: "f16" | "bf16" | "int8";
  readonly [name: string]: string | readonly string[] | undefined;
}

/**
 * Identifies a model by the parts of it that are used, and by what stands in for others.
 *
 * @param isUsed whether a part is. Default: all are
 * @throws {TilereelError} if a part is missing or cannot be read
 */
export async function modelIdentity(
  folder: ModelFolder,
  variant: ModelVariant = {},
  isUsed: (part: string) => boolean = () => true,
): Promise<ModelIdentity> {
  const { textEncoder, embeddings, loras, weightDtype } = variant;
  const own: (FileStore | StoredFile)[] = [], given = {};
  for (const [part, { replacedBy = [] }] of Object.entries(folder.family.parts)) {
    if (!isUsed(part)) continue;
    if (replacedBy.some((other) => variant[other] !== undefined)) continue;
    const place = await folder.component(part);
    if (!folder.given.includes(part)) own.push(place);
    else {
      Object.assign(given, await givenIdentity(part, place));
      // Beside a single file, the model's own configuration counts.
      const config = place.file("config.json");
      if (await place.kind() === "file" && await config.kind()) own.push(config);
    }
  }
  return {
    modelDigest: await modelDigest(own),
    ...given,
    ...await fileIdentity("textEncoder", textEncoder, "an ONNX model"),
    ...await fileIdentity("embeddings", embeddings, "a safetensors file with embeddings"),
    ...await fileIdentity("lora", loras?.map(({ file }) => file), "a LoRA in safetensors"),
    ...loras && { loraStrength: loras.map(({ strength }) => String(strength)) },
    ...weightDtype !== undefined && weightDtype !== "auto" && weightDtype !== "stored" && { weightDtype },
  };
}

/**
 * The identity as one word, for a cache to key on.
 *
 * @throws {TilereelError} if a part is missing or cannot be read
 */
export async function modelKey(folder: ModelFolder, variant?: ModelVariant): Promise<string> {
  const identity = await modelIdentity(folder, variant);
  const deciding = Object.entries(identity).filter(([key]) => identity[`${key}Digest`] === undefined);
  return (await sha256([JSON.stringify(Object.fromEntries(deciding))])).slice(0, 16);
}

/** A part that was given in place of a model's own: `textEncoder` and `textEncoderDigest` for "text_encoder". */
async function givenIdentity(part: string, place: FileStore): Promise<Readonly<Record<string, string | undefined>>> {
  const key = part.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
  if (await place.kind() === "file") return await fileIdentity(key, fileOf(place));
  return { [key]: sharedName(place.path), [`${key}Digest`]: await modelDigest([place]) };
}
