import { AttentionBlock } from "./attention_block.ts";
import type { Layer } from "../../vae/layers.ts";
import { ResnetBlock } from "./resnet_block.ts";
import type { VaeWeights } from "../../vae/weights.ts";

/** diffusers' `WanMidBlock`, the middle of the encoder and the decoder: residual block, attention, residual block. */
export async function loadMidBlock(weights: VaeWeights, name: string, dim: number): Promise<Layer[]> {
  return [
    await ResnetBlock.load(weights, `${name}.resnets.0`, dim, dim),
    await AttentionBlock.load(weights, `${name}.attentions.0`, dim),
    await ResnetBlock.load(weights, `${name}.resnets.1`, dim, dim),
  ];
}
