import type { GivenParts } from "./checkpoint/part_place.ts";
import { loraDeltas } from "./lora/lora.ts";
import { onnxTextEncoder } from "./onnx/text_encoder.ts";
import type { LoadOptions } from "./pipeline.ts";
import type { WeightChoices } from "./weights/weight_options.ts";
import type { WeightDtypeChoice } from "./weights/weight_dtype.ts";

/** A model's parts and number format as they are used. The same value loads the model and distinguishes its results. */
export interface ModelVariant {
  /** Folders, or single files of weights, in place of parts of the model, by the parts' names: `{ vae: "vae.safetensors" }`. */
  readonly parts?: GivenParts | undefined;
  /** An ONNX file to run as the text encoder instead of the model's own. */
  readonly textEncoder?: string | undefined;
  /** A file of embeddings, which needs no text encoder. */
  readonly embeddings?: string | undefined;
  /** LoRAs of the transformer and of text encoders, with their strengths. */
  readonly loras?: readonly { readonly file: string; readonly strength: number }[] | undefined;
  /** The format of matrices on the GPU. Default: "auto". */
  readonly weightDtype?: WeightDtypeChoice | undefined;
}

/** What `VideoPipeline.load` is to be told of it. */
export function loadedAs(
  { parts, textEncoder, loras, weightDtype }: ModelVariant,
): WeightChoices & Pick<LoadOptions, "parts" | "textEncoder"> {
  return {
    parts,
    textEncoder: textEncoder === undefined ? undefined : onnxTextEncoder(textEncoder),
    adjust: loras && loraDeltas(loras),
    weightDtype,
  };
}
