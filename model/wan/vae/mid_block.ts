/**
 * What encoder and decoder have in the middle.
 *
 * @module
 */
import type { Tensor } from "../../../gpu/tensor.ts";
import { AttentionBlock } from "./attention_block.ts";
import type { Pass } from "../../vae/feature_cache.ts";
import { ResnetBlock } from "./resnet_block.ts";
import type { VaeWeights } from "../../vae/weights.ts";

/** Layers that follow each other; each takes and gives [frames, height, width, channels]. */
export interface Layer {
  forward(pass: Pass, x: Tensor): Tensor;
}

/** Runs layers one behind the other, and frees what lies between, `x` included. */
export function runLayers(pass: Pass, layers: readonly Layer[], x: Tensor): Tensor {
  for (const layer of layers) {
    const y = layer.forward(pass, x);
    pass.gpu.release(x);
    x = y;
  }
  return x;
}

/** diffusers' `WanMidBlock`: residual block, attention, residual block. */
export async function loadMidBlock(weights: VaeWeights, name: string, dim: number): Promise<Layer[]> {
  return [
    await ResnetBlock.load(weights, `${name}.resnets.0`, dim, dim),
    await AttentionBlock.load(weights, `${name}.attentions.0`, dim),
    await ResnetBlock.load(weights, `${name}.resnets.1`, dim, dim),
  ];
}
