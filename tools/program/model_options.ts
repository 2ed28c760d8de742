import { TilereelError } from "../../gpu/common/errors.ts";
import { formatBytes } from "../../gpu/common/format_bytes.ts";
import { folderAt } from "../../model/files/disk.ts";
import { MissingPartsError } from "../../model/checkpoint/loose/loose_model.ts";
import { type ModelFolder, openModel, openModelFolder } from "../../model/checkpoint/model_folder.ts";
import { holdsWeights } from "../../model/checkpoint/sharded.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import { checkFits } from "../../model/estimate/what_fits.ts";
import { familyNames } from "../../model/families.ts";
import { loadedAs, type ModelVariant } from "../../model/model_variant.ts";
import { ownFile } from "../../model/own_files.ts";
import { type LoadOptions, VideoPipeline } from "../../model/pipeline.ts";
import { type Preset, PRESETS } from "../../model/schedulers/presets.ts";
import { castText, WEIGHT_DTYPE_CHOICES } from "../../model/weights/weight_dtype.ts";
import { WEIGHTS_CHOICES, type WeightsPlacement } from "../../model/blocks/weights_place.ts";
import { gpuOptions, precisionOption } from "./gpu_options.ts";
import { choice, inGroup, many, memory, notation, type OptionValues, path } from "./options.ts";

/** --weights. */
export const weightsOption = choice({
  group: "Model",
  choices: WEIGHTS_CHOICES,
  help: "Where the transformer's weights are kept. resident: on the GPU; stream: on disk, from where each " +
    "block is uploaded while the one before computes; auto: on the GPU if weights and clip fit --memory, " +
    "or 8 GB if that is not given.",
  default: "auto",
});

/** --weight-dtype. */
export const weightDtypeOption = choice({
  group: "Model",
  choices: WEIGHT_DTYPE_CHOICES,
  help: "Number format of the matrices of transformer and text encoder on the GPU. auto: as stored, but F32 " +
    "becomes f16 if --precision is f16, which halves the memory and changes no product; stored: as stored; " +
    "f16, bf16: all are cast while loading, rounded to nearest; int8: the layers of the transformer's blocks are cast " +
    "to 8 bits with a scale for each output channel, the others are as with auto.",
  elsewhere: ["weights-dtype", "weight-type"],
  default: "auto",
});

/** The model and the GPU that it runs on, for commands that train something for it. */
export const trainedModelOptions = inGroup("Model", {
  model: path({
    short: "m",
    value: "PATH",
    help:
      `A model of ${familyNames()}: a folder in the diffusers layout, a transformer's file (safetensors or GGUF), or ` +
      "a folder of such files, as ComfyUI has them. What belongs to a file is looked for beside it and in ComfyUI's folders.",
    elsewhere: ["model-path", "ckpt-dir", "M", "pretrained-model-path"],
    default: "the embedded demo model",
  }),
  transformer: path({
    value: "FILE",
    help: "Use this transformer instead of the model's own: a safetensors file, also of ComfyUI, or a part's folder.",
    elsewhere: ["diffusion-model", "unet", "dit"],
  }),
  "transformer-2": path({
    value: "FILE",
    help: "Use this transformer for low noise, which Wan 2.2 A14B has, instead of the model's own.",
    elsewhere: ["low-noise", "low-noise-diffusion-model"],
  }),
  vae: path({
    value: "FILE",
    help: "Use this VAE instead of the model's own: a safetensors file, or a part's folder.",
    elsewhere: ["vae-path", "vae-model"],
  }),
  "text-encoder": path({
    value: "FILE",
    help: "Use this text encoder instead of the model's own: a safetensors file, a part's folder, or an ONNX model.",
    elsewhere: ["t5xxl", "t5"],
  }),
  "text-encoder-2": path({
    value: "FILE",
    help: "Use this second text encoder, HunyuanVideo's CLIP, instead of the model's own: a safetensors file, or a " +
      "part's folder.",
    elsewhere: ["clip-l"],
  }),
  "image-encoder": path({
    value: "FILE",
    help: "Use this CLIP image encoder, which Wan 2.1's image to video has, instead of the model's own.",
    elsewhere: ["clip-vision", "clip_vision"],
  }),
  tokenizer: path({
    value: "DIR",
    help: "Use the tokenizer in this folder instead of the model's own.",
    elsewhere: ["tokenizer-path"],
  }),
  "tokenizer-2": path({
    value: "DIR",
    help: "Use the tokenizer in this folder for the second text encoder.",
  }),
  lora: many(notation<{ readonly file: string; readonly strength: number }>(
    {
      value: "FILE[:STRENGTH]",
      help: "Add a LoRA to the weights: a safetensors file of diffusers, ComfyUI, lightx2v or Kohya, and how " +
        "strongly. Can be given several times.",
      elsewhere: ["loras", "lora-path", "lora-weights", "lora-scale"],
      default: "none; the strength is 1",
      completion: "file",
    },
    "a file, and after a colon its strength, as in style.safetensors:0.8",
    (text) => {
      const [, file, strength = "1"] = /^(.+?)(?::([-+]?(?:\d+\.?\d*|\.\d+)))?$/.exec(text) ?? [];
      return file === undefined ? undefined : { file, strength: Number(strength) };
    },
  )),
  memory: memory({
    value: "LIMIT",
    help: "Limit of GPU memory, as in 8GiB or 512MiB. If it is small, clips are decoded in smaller parts.",
    default: "no limit, but plans assume 8 GB",
  }),
  "weight-dtype": weightDtypeOption,
  ...gpuOptions("Model"),
});

/** The same for commands that render. */
export const modelOptions = { ...trainedModelOptions, weights: weightsOption, precision: precisionOption("Model") };

/** The options of a model. Where clips are sampled, a preset may be for a LoRA of the model's own. */
export type ModelValues = OptionValues<typeof trainedModelOptions & { readonly weights: typeof weightsOption }> & {
  readonly preset?: keyof typeof PRESETS;
};

/**
 * The part of them that changes its results.
 *
 * @throws {TilereelError} with the `option`, if a preset is for a LoRA that the model does not have
 */
export async function variantOf(values: ModelValues): Promise<ModelVariant> {
  const { transformer, vae, tokenizer, "text-encoder": encoder, "weight-dtype": weightDtype } = values;
  const loras = values.lora ?? await ownLora(values);
  const ofWeights = encoder !== undefined && await holdsWeights(folderAt(encoder));
  const parts = Object.entries({
    ...{ transformer, transformer_2: values["transformer-2"], vae, image_encoder: values["image-encoder"] },
    ...{ text_encoder: ofWeights ? encoder : undefined, text_encoder_2: values["text-encoder-2"] },
    ...{ tokenizer, tokenizer_2: values["tokenizer-2"] },
  });
  return {
    parts: Object.fromEntries(parts.flatMap(([part, place]) => place === undefined ? [] : [[part, place]])),
    ...{ textEncoder: ofWeights ? undefined : encoder, loras, weightDtype },
  };
}

async function ownLora({ preset, model = embeddedModelDir() }: ModelValues): Promise<ModelVariant["loras"]> {
  const { ownLora }: Partial<Preset> = preset === undefined ? {} : PRESETS[preset];
  if (!ownLora) return undefined;
  const file = await ownFile(model, "lora");
  if (file) return [{ file: file.path, strength: 1 }];
  throw new TilereelError(
    `--preset ${preset} is for a LoRA that ${folderAt(model).path} does not have: name one with --lora FILE`,
    { option: "preset" },
  );
}

/**
 * Opens the folder of the model that the options name, with what they replace in it.
 *
 * @throws {TilereelError} as `openModelFolder` does
 */
export async function openNamedFolder(values: ModelValues): Promise<ModelFolder> {
  const { model = embeddedModelDir() } = values;
  try {
    return await openModelFolder(model, (await variantOf(values)).parts);
  } catch (error) {
    if (error instanceof MissingPartsError) {
      const options = error.parts.map((part) => `--${part.replaceAll("_", "-")}`);
      throw new TilereelError(`${error.message}, or give it with ${options.join(" and ")}`, { cause: error });
    }
    if (
      !(error instanceof TilereelError) || await folderAt(model).kind() !== "file" ||
      !await holdsWeights(folderAt(model))
    ) {
      throw error;
    }
    throw new TilereelError(
      `${error.message}, or name this file with --transformer, --vae or --text-encoder instead of --model`,
      { cause: error },
    );
  }
}

/**
 * Loads the model that the options name.
 *
 * @param options `onNote` is told in a clause of memory that the GPU may not have
 * @throws {TilereelError} if it cannot be loaded, or a clip does not fit the limit of memory
 */
export async function loadPipeline(
  values: ModelValues,
  { onNote, ...options }: Pick<LoadOptions, "gpu" | "clips" | "onProgress" | "signal" | "previewVae"> & {
    readonly onNote?: ((note: string) => void) | undefined;
  },
): Promise<VideoPipeline> {
  const { model = embeddedModelDir(), weights } = values;
  const { parts, ...how } = loadedAs(await variantOf(values)), all = { ...options, weights, ...how };
  const opened = await openModel(model, parts);
  try {
    const note = await checkFits(options.gpu, opened, all);
    if (note !== undefined) onNote?.(note);
  } catch (error) {
    opened[Symbol.dispose]();
    throw error;
  }
  return await VideoPipeline.of(opened, all);
}

/** The line that says that weights are streamed, with the reason, or cast; undefined in the usual case. */
export function weightsLine(placement: WeightsPlacement): string | undefined {
  const { place, why, bytes } = placement, text = castText(placement);
  const formats = `${text}, ${formatBytes(bytes)} on the GPU`;
  if (place === "stream") return `Weights are streamed from disk, block by block: ${why}; ${formats}.`;
  return text.includes("cast") ? `Weights are ${formats}.` : undefined;
}
