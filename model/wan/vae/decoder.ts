import { conv3d } from "../../../gpu/ops/conv3d.ts";
import { unpackPixels } from "../../../gpu/ops/channel_blocks.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import type { ChunkDecoder } from "../../vae/autoencoder.ts";
import { CLIP_CHANNELS, type VaeConfig } from "./config.ts";
import { type Pass, PAST } from "../../vae/feature_cache.ts";
import { type Layer, pointwise, runLayers } from "../../vae/layers.ts";
import { loadMidBlock } from "./mid_block.ts";
import { eachPiece, pieceFrames } from "../../vae/pieces.ts";
import { Upsample } from "./resample.ts";
import { NormConv, ResnetBlock } from "./resnet_block.ts";
import { Bridged, upShortcut } from "./shortcut.ts";
import type { Conv, VaeWeights } from "../../vae/weights.ts";

/** One resolution of the decoder. */
interface Stage {
  /** Channels of what comes in and of what its residual blocks give. */
  readonly cin: number;
  readonly cout: number;
  /** What the step to the next stage does; none behind the last. */
  readonly up: { readonly time: boolean; readonly cout: number } | undefined;
}

/** The stages of a configuration, lowest resolution first. */
function stagesOf({ decoderBaseDim, dimMult, temporalDownsample, shortcuts }: VaeConfig): Stage[] {
  const dims = [...dimMult].reverse().map((mult) => mult * decoderBaseDim);
  const time = [...temporalDownsample].reverse();
  // Steps to the next stage halve the channels; those with a shortcut round them leave that to it.
  const next = dims.map((dim) => shortcuts ? dim : dim / 2);
  return dims.map((cout, i) => ({
    cin: i === 0 ? cout : next[i - 1]!,
    cout,
    up: i < dims.length - 1 ? { time: time[i]!, cout: next[i]! } : undefined,
  }));
}

/** Bytes of the largest tensor that one frame of a stage makes, for latents of so many pixels. */
function frameBytes(stage: Stage, index: number, latentPixels: number): number {
  const pixels = latentPixels * 4 ** index;
  const upsampled = stage.up ? 4 * stage.up.cout * (stage.up.time ? 2 : 1) : 0;
  return 4 * pixels * Math.max(stage.cin, stage.cout, upsampled);
}

/**
 * What decoding latents of so many pixels holds, if frames are worked on one by one.
 *
 * @returns bytes of the largest tensor, and of what is remembered from chunk to chunk
 */
export function decoderMemory(config: VaeConfig, latentPixels: number): { largest: number; past: number } {
  let largest = 0, past = 0;
  for (const [i, stage] of stagesOf(config).entries()) {
    const frame = frameBytes(stage, i, latentPixels);
    largest = Math.max(largest, (PAST + 1) * frame);
    const channels = stage.cin + (2 * config.numResBlocks + 1) * stage.cout +
      (stage.up?.time === false ? 0 : stage.cout);
    past += PAST * 4 * latentPixels * 4 ** i * channels;
  }
  return { largest, past };
}

/** diffusers' `WanDecoder3d` with `post_quant_conv` before it. */
export class Decoder implements ChunkDecoder {
  private constructor(
    private readonly config: VaeConfig,
    private readonly postQuant: Conv,
    private readonly convIn: Conv,
    private readonly mid: readonly Layer[],
    private readonly stages: readonly (Stage & { readonly layers: readonly Layer[] })[],
    private readonly head: NormConv,
  ) {}

  static async load(weights: VaeWeights, config: VaeConfig): Promise<Decoder> {
    const { zDim, numResBlocks } = config;
    const stages = stagesOf(config);
    const postQuant = await weights.conv("post_quant_conv", zDim, zDim, [1, 1, 1]);
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
      if (up) layers.push(await Upsample.load(weights, `${name}.${step}`, cout, up));
      const size = { time: up?.time ? 2 : 1, space: 2 } as const, channels = { from: stage.cin, to: cout };
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
    return new Decoder(config, postQuant, convIn, mid, loaded, head);
  }

  memory(latentPixels: number): { largest: number; past: number } {
    return decoderMemory(this.config, latentPixels);
  }

  forward(pass: Pass, latents: Tensor, emit: (frames: Tensor) => void): void {
    const { gpu, cache } = pass;
    const quantized = pointwise(pass, latents, this.postQuant);
    const past = cache.extend(this.convIn, quantized);
    gpu.release(quantized);
    const x = conv3d(gpu, past, this.convIn.weight, this.convIn.bias);
    gpu.release(past);
    this.#run(pass, 0, latents.dim(1) * latents.dim(2), runLayers(pass, this.mid, x), emit);
  }

  #run(pass: Pass, index: number, latentPixels: number, x: Tensor, emit: (frames: Tensor) => void): void {
    const { gpu } = pass;
    const stage = this.stages[index]!;
    eachPiece(gpu, x, pieceFrames(gpu, pass.pieceBytes, frameBytes(stage, index, latentPixels)), (piece) => {
      const y = runLayers(pass, stage.layers, piece);
      if (stage.up) return this.#run(pass, index + 1, latentPixels, y, emit);
      const head = this.head.forward(pass, y), { patch } = this.config;
      gpu.release(y);
      const frames = patch === 1 ? head : unpackPixels(gpu, head, patch, CLIP_CHANNELS);
      if (frames !== head) gpu.release(head);
      emit(frames);
      gpu.release(frames);
    });
  }
}
