import type { Tensor } from "../../../gpu/tensor.ts";
import type { ChunkDecoder, HalfMemory, HalfWork } from "../../vae/autoencoder.ts";
import type { Chunk } from "../../vae/chunks.ts";
import type { Pass } from "../../vae/feature_cache.ts";
import { pointwise } from "../../vae/layers.ts";
import type { Pointwise, VaeWeights } from "../../vae/weights.ts";
import type { VaeConfig } from "./config.ts";
import { CausalConv, type ChunkLayer, Head, ResnetBlock } from "./layers.ts";
import { loadMidBlock } from "./mid_block.ts";
import { stagesOf } from "./stages.ts";
import { timeTilesOf } from "./time_tiles.ts";

/** How many of the largest tensors lie in memory at once. Measured: 2 */
const LIVE_TENSORS = 3.5;

/** diffusers' `HunyuanVideoDecoder3D` with `post_quant_conv` before it. */
export class Decoder implements ChunkDecoder {
  private constructor(
    private readonly config: VaeConfig,
    private readonly postQuant: Pointwise,
    private readonly layers: readonly ChunkLayer[],
  ) {}

  static async load(weights: VaeWeights, config: VaeConfig): Promise<Decoder> {
    const { zDim, groups, layersPerBlock, outChannels } = config, stages = stagesOf(config, "decoder");
    const postQuant = await weights.pointwise("post_quant_conv", zDim, zDim);
    const layers: ChunkLayer[] = [
      await CausalConv.load(weights, "decoder.conv_in", zDim, stages[0]!.cin),
      ...await loadMidBlock(weights, "decoder.mid_block", stages[0]!.cin, groups),
    ];
    for (const [i, { cin, cout, step }] of stages.entries()) {
      const name = `decoder.up_blocks.${i}`;
      for (let j = 0; j <= layersPerBlock; j++) {
        layers.push(await ResnetBlock.load(weights, `${name}.resnets.${j}`, j === 0 ? cin : cout, cout, groups));
      }
      if (step) {
        const options = { up: 2, upTime: step.time ? 2 : 1 } as const;
        layers.push(await CausalConv.load(weights, `${name}.upsamplers.0.conv`, cout, cout, options));
      }
    }
    layers.push(await Head.load(weights, "decoder", stages.at(-1)!.cout, outChannels, groups));
    return new Decoder(config, postQuant, layers);
  }

  memory({ latentPixels, frames: latentFrames }: HalfWork): HalfMemory {
    let largest = 0, frames = latentFrames;
    for (const [i, { cin, cout, step }] of stagesOf(this.config, "decoder").entries()) {
      largest = Math.max(largest, 4 * latentPixels * 4 ** i * frames * Math.max(cin, cout));
      if (step?.time) frames = 2 * frames - 1;
    }
    return { largest, held: LIVE_TENSORS * largest };
  }

  chunks(latentFrames: number): readonly Chunk[] {
    return timeTilesOf(latentFrames, this.config);
  }

  forward(pass: Pass, latents: Tensor, emit: (frames: Tensor) => void): void {
    const { gpu } = pass;
    const frames = this.layers.reduce((x, layer) => layer.forward(gpu, x), pointwise(pass, latents, this.postQuant));
    emit(frames);
    gpu.release(frames);
  }
}
