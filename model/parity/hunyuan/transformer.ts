import type { Gpu } from "../../../gpu/gpu.ts";
import { TensorOwner } from "../../../gpu/tensor_owner.ts";
import { FullAttention } from "../../attention/full.ts";
import type { SelfAttention } from "../../attention/method.ts";
import { openPart } from "../../checkpoint/open_part.ts";
import { readTransformerConfig } from "../../hunyuan/config.ts";
import { HunyuanVideoTransformer3DModel } from "../../hunyuan/transformer.ts";
import { TRANSFORMER_WEIGHTS } from "../../hunyuan/weights.ts";
import { BOUNDS } from "../bounds.ts";
import { type Check, Checks, type ParityCase, References } from "../case.ts";

/** One forward pass of a small model with padded text: folders `tiny_hunyuan*` with a transformer. */
export const hunyuanTransformer: ParityCase = {
  matches: /^tiny_hunyuan(?:_hd\d+)?$/,
  async *run(path, { gpus }): AsyncIterable<Check> {
    using references = await References.open(`${path}/reference.safetensors`);
    for (const gpu of gpus) {
      using model = await loadTiny(gpu, path);
      using owned = new TensorOwner(gpu);
      const pass = await passOf(owned, references);
      using full = new FullAttention(gpu, model.shape, model.layout(pass.latents.shape, pass.conditioning));
      const selfAttention: SelfAttention = (q, k, v) => full.attend(q, k, v);
      const [velocity] = owned.adopt(await model.predict([{ ...pass, selfAttention }]));
      yield* new Checks(path, gpu, references).rows("output", BOUNDS.tinyHunyuan, velocity!);
    }
  },
};

/** Loads the transformer in a folder of references. */
export async function loadTiny(gpu: Gpu, path: string): Promise<HunyuanVideoTransformer3DModel> {
  using source = await openPart(path, TRANSFORMER_WEIGHTS);
  return await HunyuanVideoTransformer3DModel.load(gpu, source, await readTransformerConfig(`${path}/config.json`));
}

/** Uploads the arguments of diffusers' forward pass: those of ours. */
export async function passOf(owned: TensorOwner, references: References) {
  const upload = async (name: string) => owned.adopt(await references.upload(owned.gpu, name));
  const mask = await references.read("encoder_attention_mask"), [guidance] = await references.read("guidance");
  return {
    latents: await upload("hidden_states"),
    timesteps: [...await references.read("timestep")],
    conditioning: {
      text: await upload("encoder_hidden_states"),
      textLength: mask.filter((valid) => valid !== 0).length,
      pooled: await upload("pooled_projections"),
      guidance: guidance! / 1000,
    },
  };
}
