/**
 * `demo_transformer.safetensors`, and folders `tiny_hd*` with a model of their own.
 *
 * @module
 */
import { openModelFolder } from "../../checkpoint/model_folder.ts";
import { openPart } from "../../checkpoint/open_part.ts";
import { TRANSFORMER_WEIGHTS } from "../../wan/weights.ts";
import { folderAt } from "../../files/disk.ts";
import type { FileStore } from "../../files/store.ts";
import { TensorOwner } from "../../../gpu/tensor_owner.ts";
import { readTransformerConfig } from "../../wan/config.ts";
import { WanTransformer3DModel } from "../../wan/transformer.ts";
import { BOUNDS, type Bounds } from "../bounds.ts";
import { type Check, Checks, type ParityCase, type ParityContext, References } from "../case.ts";

/** One forward pass of the model under test. */
export const demoTransformer: ParityCase = {
  matches: /^demo_transformer\.safetensors$/,
  async *run(path, context): AsyncIterable<Check> {
    const folder = await (await openModelFolder(context.model)).component("transformer");
    yield* compare(path, folder, path, BOUNDS.demoTransformer, context);
  },
};

/** One forward pass of a small model with other head sizes. */
export const tinyTransformer: ParityCase = {
  matches: /^tiny_hd\d+$/,
  async *run(path, context): AsyncIterable<Check> {
    yield* compare(path, folderAt(path), `${path}/reference.safetensors`, BOUNDS.tinyTransformer, context);
  },
};

async function* compare(
  path: string,
  folder: FileStore,
  file: string,
  bounds: Bounds,
  { gpus }: ParityContext,
): AsyncIterable<Check> {
  using references = await References.open(file);
  for (const gpu of gpus) {
    using source = await openPart(folder, TRANSFORMER_WEIGHTS);
    using model = await WanTransformer3DModel.load(
      gpu,
      source,
      await readTransformerConfig(folder.file("config.json")),
    );
    using owned = new TensorOwner(gpu);
    const latents = owned.adopt(await references.upload(gpu, "hidden_states"));
    const text = owned.adopt(await references.upload(gpu, "encoder_hidden_states"));
    const timesteps = [...await references.read("timestep")];
    const [velocity] = owned.adopt(await model.predict([{ latents, timesteps, conditioning: { text } }]));
    yield* new Checks(path, gpu, references).rows("output", bounds, velocity!);
  }
}
