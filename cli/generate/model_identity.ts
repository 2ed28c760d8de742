/**
 * What tells the model of a clip from others.
 *
 * @module
 */
import { openModelFolder } from "../../model/checkpoint/model_folder.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import { modelDigest } from "../../model/identity/digest.ts";
import { fileIdentity, sharedName } from "../../model/identity/file_identity.ts";

/** What the embedded model is called. */
export const EMBEDDED = "embedded";

/** The model and what stands in for parts of it. */
export interface ModelChoice {
  /** A folder. Default: the embedded model. */
  readonly model?: string | undefined;
  /** An ONNX file instead of the model's own text encoder. */
  readonly textEncoder?: string | undefined;
  /** A file of embeddings instead of any. */
  readonly embeddings?: string | undefined;
}

/** What a clip's record says of the model. */
export interface ModelIdentity {
  /** {@link EMBEDDED}, or the folder's name. */
  readonly model: string;
  readonly modelDigest: string;
  readonly textEncoder?: string;
  readonly textEncoderDigest?: string;
  readonly embeddings?: string;
  readonly embeddingsDigest?: string;
}

/**
 * Identifies the model by the parts that a clip is made with.
 *
 * @throws {TilereelError} if one is missing or cannot be read
 */
export async function modelIdentity({ model, textEncoder, embeddings }: ModelChoice): Promise<ModelIdentity> {
  const folder = await openModelFolder(model ?? embeddedModelDir());
  const parts = ["transformer", "vae", "scheduler"] as const;
  const encoding = embeddings !== undefined
    ? []
    : textEncoder !== undefined
    ? ["tokenizer"] as const
    : ["tokenizer", "text_encoder"] as const;
  const paths = await Promise.all([...parts, ...encoding].map((part) => folder.component(part)));
  return {
    model: model === undefined ? EMBEDDED : sharedName(model),
    modelDigest: (await modelDigest(paths)).slice(0, 16),
    ...await fileIdentity("textEncoder", textEncoder, "an ONNX model"),
    ...await fileIdentity("embeddings", embeddings, "a safetensors file with embeddings"),
  };
}
