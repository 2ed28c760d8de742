import { openPart } from "../../checkpoint/open_part.ts";
import { TRANSFORMER_WEIGHTS } from "../../wan/weights.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { cutWindow, pasteWindow } from "../../../gpu/ops/frames.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import { TensorOwner } from "../../../gpu/tensor_owner.ts";
import type { ForwardPass } from "../../family.ts";
import { folderAt } from "../../files/disk.ts";
import { loraDeltas } from "../../lora/lora.ts";
import { readTransformerConfig, type TransformerConfig } from "../../wan/config.ts";
import { WAN } from "../../wan/family.ts";
import { WanTransformer3DModel } from "../../wan/transformer.ts";
import { openWeightOptions } from "../../weights/weight_options.ts";
import { BOUNDS } from "../bounds.ts";
import { type Check, Checks, type ParityCase, partAt, References } from "../case.ts";

/**
 * One forward pass: `demo_transformer.safetensors`, `demo_few_steps.safetensors` with the LoRA of the demo model, and
 * folders with models of other head sizes (`tiny_hd*`) and of image to video (`tiny_wan_*`).
 */
export const transformer: ParityCase = {
  matches: /^(?:demo_(?:transformer|few_steps)\.safetensors|tiny_hd\d+|tiny_wan_(?:i2v|flf|ti2v))$/,
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
      const [velocity] = owned.adopt(await model.predict([await passOf(owned, references, config)]));
      yield* new Checks(path, gpu, references).rows("output", bounds, velocity!);
    }
  },
};

/** Uploads the arguments of diffusers' forward pass: those of ours. */
export async function passOf(
  owned: TensorOwner,
  references: References,
  config: TransformerConfig,
): Promise<ForwardPass> {
  const { gpu } = owned, upload = async (name: string) => owned.adopt(await references.upload(gpu, name));
  const hidden = await upload("hidden_states"), times = [...await references.read("timestep")];
  const [batch, channels, ...size] = hidden.shape as [number, number, ...number[]], own = config.outChannels;
  // Behind the latents stand the channels of a picture.
  const latents = channels > own ? owned.adopt(cut(gpu, hidden, 0, own, size)) : hidden;
  // One time for each pass of the batch, or one for each token.
  const ofTokens = times.length > batch;
  const pictures = config.images && await upload("encoder_hidden_states_image");
  return {
    latents,
    timesteps: ofTokens ? [times.at(-1)!] : times,
    conditioning: {
      text: await upload("encoder_hidden_states"),
      ...channels > own && { channels: owned.adopt(cut(gpu, hidden, own, channels - own, size)) },
      ...pictures && { image: pictures.reshape([1, pictures.size / pictures.dim(-1), pictures.dim(-1)]) },
      ...ofTokens && { frames: owned.adopt(knownFrames(gpu, latents, times)) },
    },
  };
}

/** Some channels of [1, channels, ...size]. */
function cut(gpu: Gpu, x: Tensor, first: number, count: number, size: readonly number[]): Tensor {
  const y = gpu.tensor([1, count, ...size]);
  gpu.copy(x.reshape(x.shape.slice(1)).slice(first, count), y);
  return y;
}

/** The first frames of latents, where the times of all tokens are 0. */
function knownFrames(gpu: Gpu, latents: Tensor, times: readonly number[]): Tensor {
  const [, channels, frames, height, width] = latents.shape as [number, number, number, number, number];
  const ofFrame = times.length / frames, known = times.filter((time) => time === 0).length / ofFrame;
  return gpu.scope(() => {
    const window = { frame: 0, frames: known, top: 0, left: 0, height, width };
    const y = gpu.tensor([channels, known, height, width]);
    pasteWindow(gpu, cutWindow(gpu, latents.reshape([channels, frames, height, width]), window), y, window);
    return y.reshape([1, ...y.shape]);
  });
}
