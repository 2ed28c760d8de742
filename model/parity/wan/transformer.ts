import { openPart } from "../../checkpoint/open_part.ts";
import { TRANSFORMER_WEIGHTS } from "../../wan/weights.ts";
import { TensorOwner } from "../../../gpu/tensor_owner.ts";
import { folderAt } from "../../files/disk.ts";
import { loraDeltas } from "../../lora/lora.ts";
import { readTransformerConfig } from "../../wan/config.ts";
import { WAN } from "../../wan/family.ts";
import { WanTransformer3DModel } from "../../wan/transformer.ts";
import { openWeightOptions } from "../../weights/weight_options.ts";
import { BOUNDS } from "../bounds.ts";
import { type Check, Checks, type ParityCase, partAt, References } from "../case.ts";

/**
 * One forward pass: `demo_transformer.safetensors`, `demo_few_steps.safetensors` with the LoRA of the demo model, and
 * folders `tiny_hd*` with models of other head sizes.
 */
export const transformer: ParityCase = {
  matches: /^(?:demo_(?:transformer|few_steps)\.safetensors|tiny_hd\d+)$/,
  async *run(path, context): AsyncIterable<Check> {
    const { folder, file, isTiny } = await partAt(path, "transformer", context);
    const bounds = isTiny ? BOUNDS.tinyTransformer : BOUNDS.demoTransformer;
    using references = await References.open(file);
    using source = await openPart(folder, TRANSFORMER_WEIGHTS);
    const config = await readTransformerConfig(folder.file("config.json"));
    const adjust = path.endsWith("demo_few_steps.safetensors")
      ? loraDeltas([{ file: folderAt(context.model).file("few_steps.safetensors") }])
      : [];
    for (const gpu of context.gpus) {
      using options = await openWeightOptions(gpu, WAN, { adjust });
      using model = await WanTransformer3DModel.load(gpu, source, config, options.of("transformer"));
      using owned = new TensorOwner(gpu);
      const [velocity] = owned.adopt(await model.predict([await passOf(owned, references)]));
      yield* new Checks(path, gpu, references).rows("output", bounds, velocity!);
    }
  },
};

/** Uploads the arguments of diffusers' forward pass: those of ours. */
export async function passOf(owned: TensorOwner, references: References) {
  const upload = async (name: string) => owned.adopt(await references.upload(owned.gpu, name));
  return {
    latents: await upload("hidden_states"),
    timesteps: [...await references.read("timestep")],
    conditioning: { text: await upload("encoder_hidden_states") },
  };
}
