import type { Gpu } from "../../../gpu/gpu.ts";
import { conv3d } from "../../../gpu/ops/conv3d.ts";
import { unpackPixels } from "../../../gpu/ops/channel_blocks.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import type { ChunkDecoder, HalfMemory, HalfWork } from "../../vae/autoencoder.ts";
import { type DecoderStage, decodingMemory, runStages } from "../../vae/decoder_stages.ts";
import { CLIP_CHANNELS, type VaeConfig } from "./config.ts";
import { type Pass, PAST } from "../../vae/feature_cache.ts";
import { type Layer, pointwise, runLayers } from "../../vae/layers.ts";
import { loadMidBlock } from "./mid_block.ts";
import { Upsample } from "./resample.ts";
import { NormConv, ResnetBlock } from "./resnet_block.ts";
import { Bridged, upShortcut } from "./shortcut.ts";
import type { Conv, Pointwise, VaeWeights } from "../../vae/weights.ts";

/** One resolution of the decoder. */
interface Stage extends DecoderStage {
  /** Channels of what comes in and of what its residual blocks give. */
  readonly cin: number;
  readonly cout: number;
}

/** The stages of a configuration, lowest resolution first. */
function stagesOf({ decoderBaseDim, dimMult, temporalDownsample, shortcuts, numResBlocks }: VaeConfig): Stage[] {
  const dims = [...dimMult].reverse().map((mult) => mult * decoderBaseDim);
  const times = [...temporalDownsample].reverse();
  // Steps to the next stage halve the channels; those with a shortcut round them leave that to it.
  const next = dims.map((dim) => shortcuts ? dim : dim / 2);
  return dims.map((cout, i) => {
    const cin = i === 0 ? cout : next[i - 1]!, isLast = i === dims.length - 1;
    const up = isLast ? undefined : { time: times[i]! ? 2 : 1, channels: next[i]! };
    // Convolutions: of the residual blocks, and of the step in time or, at the end, of the head.
    const convolved = cin + (2 * numResBlocks + 1) * cout + (up?.time === 1 ? 0 : cout);
    return {
      ...{ cin, cout, up, past: { frames: PAST, channels: convolved } },
      channels: Math.max(cin, cout, up ? 4 * up.channels * up.time : 0),
    };
  });
}

/** What decoding holds. */
export const decoderMemory = (gpu: Gpu, config: VaeConfig, work: HalfWork): HalfMemory =>
  decodingMemory(gpu, stagesOf(config), work);

/** diffusers' `WanDecoder3d` with `post_quant_conv` before it. */
export class Decoder implements ChunkDecoder {
  private constructor(
    private readonly gpu: Gpu,
    private readonly config: VaeConfig,
    private readonly postQuant: Pointwise,
    private readonly convIn: Conv,
    private readonly mid: readonly Layer[],
    private readonly stages: readonly (Stage & { readonly layers: readonly Layer[] })[],
    private readonly head: NormConv,
  ) {}

  static async load(weights: VaeWeights, config: VaeConfig): Promise<Decoder> {
    const { zDim, numResBlocks } = config;
    const stages = stagesOf(config);
    const postQuant = await weights.pointwise("post_quant_conv", zDim, zDim);
    const convIn = await weights.conv("decoder.conv_in", zDim, stages[0]!.cin, [3, 3, 3]);
    const mid = await loadMidBlock(weights, "decoder.mid_block", stages[0]!.cin);
    const loaded = [];
    for (const [i, stage] of stages.entries()) {
      const name = `decoder.up_blocks.${i}`, { cout, up } = stage, layers: Layer[] = [];
      for (let j = 0; j <= numResBlocks; j++) {
        const cin = j === 0 ? stage.cin : stage.cout;
        layers.push(await ResnetBlock.load(weights, `${name}.resnets.${j}`, cin, stage.cout));
      }
      const step = config.shortcuts ? "upsampler" : "upsamplers.0";
      if (up) {
        const to = { time: up.time === 2, cout: up.channels };
        layers.push(await Upsample.load(weights, `${name}.${step}`, cout, to));
      }
      const size = { time: up?.time === 2 ? 2 : 1, space: 2 } as const, channels = { from: stage.cin, to: cout };
      const isBridged = config.shortcuts && up;
      loaded.push({ ...stage, layers: isBridged ? [new Bridged(layers, upShortcut(size, channels))] : layers });
    }
    const head = await NormConv.load(
      weights,
      "decoder.norm_out",
      "decoder.conv_out",
      stages.at(-1)!.cout,
      CLIP_CHANNELS * config.patch ** 2,
    );
    return new Decoder(weights.gpu, config, postQuant, convIn, mid, loaded, head);
  }

  memory(work: HalfWork): HalfMemory {
    return decoderMemory(this.gpu, this.config, work);
  }

  forward(pass: Pass, latents: Tensor, emit: (frames: Tensor) => void): void {
    const { gpu, cache } = pass;
    const quantized = pointwise(pass, latents, this.postQuant);
    const { tensor, ring } = cache.extend(this.convIn, quantized, pass.most);
    gpu.release(quantized);
    const x = conv3d(gpu, tensor, this.convIn.weight, this.convIn.bias, { ring });
    const start = runLayers(pass, this.mid, x), latentPixels = latents.dim(1) * latents.dim(2);
    runStages(pass, this.stages, latentPixels, start, (within, y) => {
      const head = this.head.forward(within, y), { patch } = this.config;
      gpu.release(y);
      const frames = patch === 1 ? head : unpackPixels(gpu, head, patch, CLIP_CHANNELS);
      if (frames !== head) gpu.release(head);
      emit(frames);
      gpu.release(frames);
    });
  }
}
