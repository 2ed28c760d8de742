/**
 * What tells models apart: everything of a model that changes its results. All caches of results key on it.
 *
 * @module
 */
import type { ModelFolder } from "../checkpoint/model_folder.ts";
import type { ModelVariant } from "../model_variant.ts";
import { modelDigest, sha256 } from "./digest.ts";
import { fileIdentity } from "./file_identity.ts";

/** The identity of a model, as records of clips have it. Where a file has a digest, its name does not count. */
export interface ModelIdentity {
  /** Of all parts in the model's folder that are used. */
  readonly modelDigest: string;
  readonly textEncoder?: string;
  readonly textEncoderDigest?: string;
  readonly embeddings?: string;
  readonly embeddingsDigest?: string;
  /** Only a format that rounds the weights: "auto" and "stored" change no product. */
  readonly weightDtype?: "f16" | "bf16";
}

/**
 * Identifies a model by the parts of it that are used, and by what stands in for others.
 *
 * @throws {TilereelError} if a part is missing or cannot be read
 */
export async function modelIdentity(folder: ModelFolder, variant: ModelVariant = {}): Promise<ModelIdentity> {
  const { textEncoder, embeddings, weightDtype } = variant;
  const used = Object.entries(folder.family.parts)
    .filter(([, { replacedBy = [] }]) => replacedBy.every((other) => variant[other] === undefined));
  return {
    modelDigest: (await modelDigest(await Promise.all(used.map(([part]) => folder.component(part))))).slice(0, 16),
    ...await fileIdentity("textEncoder", textEncoder, "an ONNX model"),
    ...await fileIdentity("embeddings", embeddings, "a safetensors file with embeddings"),
    ...(weightDtype === "f16" || weightDtype === "bf16") && { weightDtype },
  };
}

/**
 * The identity as one word, for a cache to key on.
 *
 * @throws {TilereelError} if a part is missing or cannot be read
 */
export async function modelKey(folder: ModelFolder, variant?: ModelVariant): Promise<string> {
  const { textEncoder: _, embeddings: __, ...deciding } = await modelIdentity(folder, variant);
  return (await sha256([JSON.stringify(deciding)])).slice(0, 16);
}
