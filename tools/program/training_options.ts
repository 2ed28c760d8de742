/**
 * Options that all commands share which train something for a model.
 *
 * @module
 */
import { gpuOptions } from "./gpu_options.ts";
import { memory, path } from "./options.ts";
import { weightDtypeOption } from "./weights_options.ts";

const MODEL = "Model";

/** The model that something is trained for, and where it runs. */
export const trainedModelOptions = {
  model: path({
    group: MODEL,
    short: "m",
    value: "DIR",
    help: "Folder of a Wan 2.1 text-to-video model in the diffusers layout.",
    elsewhere: ["model-path", "ckpt-dir", "M", "pretrained-model-path"],
    default: "the embedded demo model",
  }),
  "text-encoder": path({
    group: MODEL,
    value: "FILE.onnx",
    help: "Run this ONNX file as the text encoder instead of the model's own.",
  }),
  "weight-dtype": weightDtypeOption,
  memory: memory({
    group: MODEL,
    value: "LIMIT",
    help: "GPU memory that may be used, as in 8GiB or 512MiB.",
    default: "no limit; plans go by 8 GB",
  }),
  ...gpuOptions(MODEL),
};
