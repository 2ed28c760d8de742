import { TensorOwner } from "../../../gpu/tensor_owner.ts";
import type { SelfAttention } from "../../attention/method.ts";
import { openPart } from "../../checkpoint/open_part.ts";
import { folderAt } from "../../files/disk.ts";
import { VsaAttention } from "../../vsa/attention.ts";
import { readTransformerConfig } from "../../wan/config.ts";
import { WanTransformer3DModel } from "../../wan/transformer.ts";
import { TRANSFORMER_WEIGHTS } from "../../wan/weights.ts";
import { BOUNDS } from "../bounds.ts";
import { type Check, Checks, type ParityCase, References } from "../case.ts";

/** Folders `tiny_fastwan*`: forward passes of FastVideo's transformer with video sparse attention and its gates. */
export const fastWan: ParityCase = {
  matches: /^tiny_fastwan/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    const folder = folderAt(path);
    using references = await References.open(`${path}/reference.safetensors`);
    using source = await openPart(folder, TRANSFORMER_WEIGHTS);
    const config = { ...await readTransformerConfig(folder.file("config.json")), gated: true };
    const timesteps = [...await references.read("timesteps")];
    for (const gpu of gpus) {
      using model = await WanTransformer3DModel.load(gpu, source, config);
      using owned = new TensorOwner(gpu);
      const upload = async (name: string) => owned.adopt(await references.upload(gpu, name));
      const latents = await upload("hidden_states"), text = await upload("encoder_hidden_states");
      using vsa = new VsaAttention(gpu, config, model.layout(latents.shape), references.setting("sparsity"));
      const attend: SelfAttention = (q, k, v, _layer, gate) => vsa.attend(q, k, v, gate);
      const selfAttention = Object.assign(attend, { takesGate: true });
      for (const [call, timestep] of timesteps.entries()) {
        const input = { latents, timesteps: [timestep], conditioning: { text }, selfAttention };
        const [velocity] = owned.adopt(await model.predict([input]));
        yield* new Checks(path, gpu, references).rows(`output.${call}`, BOUNDS.tinyFastWan, velocity!);
      }
    }
  },
};
