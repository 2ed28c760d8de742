/**
 * `demo_transformer.safetensors`, and folders `tiny_hd*` with a model of their own.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { openModelFolder } from "../checkpoint/model_folder.ts";
import { openCheckpoint } from "../checkpoint/sharded.ts";
import { readTransformerConfig } from "../wan/config.ts";
import { WanTransformer3DModel } from "../wan/transformer.ts";
import { type Check, forwardBound, forwardName, type ParityCase, type ParityContext, References } from "./case.ts";
import { relativeError } from "./measures.ts";

/** One forward pass of the model under test. */
export const demoTransformer: ParityCase = {
  matches: /^demo_transformer\.safetensors$/,
  async *run(path, context): AsyncIterable<Check> {
    yield* compare(path, await (await openModelFolder(context.model)).component("transformer"), path, context);
  },
};

/** One forward pass of a small model with other head sizes. */
export const tinyTransformer: ParityCase = {
  matches: /^tiny_hd\d+$/,
  async *run(path, context): AsyncIterable<Check> {
    yield* compare(path, path, `${path}/reference.safetensors`, context);
  },
};

async function* compare(path: string, folder: string, file: string, { gpus }: ParityContext): AsyncIterable<Check> {
  using references = await References.open(file);
  for (const gpu of gpus) {
    yield {
      name: forwardName(path, "output", gpu),
      value: relativeError(await forward(gpu, folder, references), await references.read("output")),
      unit: "relative",
      bound: forwardBound(gpu),
    };
  }
}

async function forward(gpu: Gpu, folder: string, references: References): Promise<Float32Array> {
  using source = await openCheckpoint(folder, "diffusion_pytorch_model");
  const model = await WanTransformer3DModel.load(gpu, source, await readTransformerConfig(`${folder}/config.json`));
  const hiddenStates = await references.upload(gpu, "hidden_states");
  const textEmbeddings = await references.upload(gpu, "encoder_hidden_states");
  const output = model.forward({ hiddenStates, timesteps: [...await references.read("timestep")], textEmbeddings });
  const numbers = await gpu.read(output);
  for (const tensor of [hiddenStates, textEmbeddings, output]) gpu.release(tensor);
  model.release();
  return numbers;
}
