import type { Tensor } from "../../../gpu/tensor.ts";
import type { ChunkEncoder, HalfMemory, HalfWork } from "../../vae/autoencoder.ts";
import type { Chunk } from "../../vae/chunks.ts";
import type { Pass } from "../../vae/feature_cache.ts";
import { pointwise } from "../../vae/layers.ts";
import type { Pointwise, VaeWeights } from "../../vae/weights.ts";
import type { VaeConfig } from "./config.ts";
import { CausalConv, type ChunkLayer, Head, ResnetBlock } from "./layers.ts";
import { loadMidBlock } from "./mid_block.ts";
import { stagesOf } from "./stages.ts";
import { timeTilesOf } from "./time_tiles.ts";

/** How many of the largest tensors lie in memory at once. Measured: 3 */
const LIVE_TENSORS = 3.5;

/** diffusers' `HunyuanVideoEncoder3D` with `quant_conv` behind it. */
export class Encoder implements ChunkEncoder {
  private constructor(
    private readonly config: VaeConfig,
    private readonly layers: readonly ChunkLayer[],
    private readonly quant: Pointwise,
  ) {}

  static async load(weights: VaeWeights, config: VaeConfig): Promise<Encoder> {
    const { zDim, groups, layersPerBlock, inChannels } = config, stages = stagesOf(config, "encoder");
    const layers: ChunkLayer[] = [await CausalConv.load(weights, "encoder.conv_in", inChannels, stages[0]!.cin)];
    for (const [i, { cin, cout, step }] of stages.entries()) {
      const name = `encoder.down_blocks.${i}`;
      for (let j = 0; j < layersPerBlock; j++) {
        layers.push(await ResnetBlock.load(weights, `${name}.resnets.${j}`, j === 0 ? cin : cout, cout, groups));
      }
      if (step) {
        const options = { stride: 2, strideTime: step.time ? 2 : 1 } as const;
        layers.push(await CausalConv.load(weights, `${name}.downsamplers.0.conv`, cout, cout, options));
      }
    }
    const dim = stages.at(-1)!.cout;
    layers.push(...await loadMidBlock(weights, "encoder.mid_block", dim, groups));
    layers.push(await Head.load(weights, "encoder", dim, 2 * zDim, groups));
    return new Encoder(config, layers, await weights.pointwise("quant_conv", 2 * zDim, 2 * zDim));
  }

  memory({ latentPixels, frames: latentFrames }: HalfWork): HalfMemory {
    const { spatialScale, temporalScale } = this.config;
    let largest = 0, frames = (latentFrames - 1) * temporalScale + 1;
    for (const [i, { cin, cout, step }] of stagesOf(this.config, "encoder").entries()) {
      const pixels = latentPixels * spatialScale ** 2 / 4 ** i;
      largest = Math.max(largest, 4 * pixels * frames * Math.max(cin, cout));
      if (step?.time) frames = (frames + 1) / 2;
    }
    return { largest, held: LIVE_TENSORS * largest };
  }

  chunks(latentFrames: number): readonly Chunk[] {
    return timeTilesOf(latentFrames, this.config);
  }

  forward(pass: Pass, frames: Tensor): Tensor {
    const { gpu } = pass;
    const x = this.layers.reduce((x, layer) => layer.forward(gpu, x), frames);
    const moments = pointwise(pass, x, this.quant);
    gpu.release(x);
    return moments;
  }
}
