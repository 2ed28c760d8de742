import type { Gpu } from "../../../gpu/gpu.ts";
import { conv3d } from "../../../gpu/ops/conv3d.ts";
import { unpackPixels } from "../../../gpu/ops/channel_blocks.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import type { ChunkDecoder, HalfMemory, HalfWork } from "../../vae/autoencoder.ts";
import { CLIP_CHANNELS, type VaeConfig } from "./config.ts";
import { type Pass, PAST } from "../../vae/feature_cache.ts";
import { type Layer, pointwise, runLayers } from "../../vae/layers.ts";
import { loadMidBlock } from "./mid_block.ts";
import { eachPiece, inputBytes, OUTPUT_BYTES, pieceFrames } from "../../vae/pieces.ts";
import { Upsample } from "./resample.ts";
import { NormConv, ResnetBlock } from "./resnet_block.ts";
import { Bridged, upShortcut } from "./shortcut.ts";
import type { Conv, Pointwise, VaeWeights } from "../../vae/weights.ts";

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

/** Numbers of the largest tensor that one frame of a stage makes, for latents of so many pixels. */
function frameNumbers(stage: Stage, index: number, latentPixels: number): number {
  const pixels = latentPixels * 4 ** index;
  const upsampled = stage.up ? 4 * stage.up.cout * (stage.up.time ? 2 : 1) : 0;
  return pixels * Math.max(stage.cin, stage.cout, upsampled);
}

/**
 * How many of a stage's largest tensors lie in memory at once: a residual block's input, its hidden frames, what comes
 * out, and buffers kept for reuse.
 */
const LIVE_TENSORS = 4;

/** What decoding holds. */
export function decoderMemory(gpu: Gpu, config: VaeConfig, { latentPixels, frames, pieceBytes }: HalfWork): HalfMemory {
  let largest = 0, past = 0, live = 0, waiting = 0, given = frames;
  for (const [i, stage] of stagesOf(config).entries()) {
    const numbers = frameNumbers(stage, i, latentPixels), most = Math.min(given, pieceFrames(gpu, pieceBytes, numbers));
    largest = Math.max(largest, most * numbers * OUTPUT_BYTES, (PAST + most) * numbers * inputBytes(gpu));
    const channels = stage.cin + (2 * config.numResBlocks + 1) * stage.cout +
      (stage.up?.time === false ? 0 : stage.cout);
    past += (PAST + most) * inputBytes(gpu) * latentPixels * 4 ** i * channels;
    given = most * (stage.up?.time ? 2 : 1);
    live = Math.max(live, LIVE_TENSORS * most * numbers * OUTPUT_BYTES);
    // What comes out waits while the next stage works on a part of it.
    if (stage.up) waiting += 4 * latentPixels * 4 ** i * stage.up.cout * given * OUTPUT_BYTES;
  }
  return { largest, held: past + live + waiting };
}

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
    this.#run(pass, 0, latents.dim(1) * latents.dim(2), runLayers(pass, this.mid, x), emit);
  }

  #run(pass: Pass, index: number, latentPixels: number, x: Tensor, emit: (frames: Tensor) => void): void {
    const { gpu } = pass;
    const stage = this.stages[index]!;
    const numbers = frameNumbers(stage, index, latentPixels);
    const most = Math.min(pass.most, pieceFrames(gpu, pass.pieceBytes, numbers)), within = { ...pass, most };
    eachPiece(gpu, x, most, (piece) => {
      const y = runLayers(within, stage.layers, piece);
      if (stage.up) {
        return this.#run({ ...pass, most: most * (stage.up.time ? 2 : 1) }, index + 1, latentPixels, y, emit);
      }
      const head = this.head.forward(within, y), { patch } = this.config;
      gpu.release(y);
      const frames = patch === 1 ? head : unpackPixels(gpu, head, patch, CLIP_CHANNELS);
      if (frames !== head) gpu.release(head);
      emit(frames);
      gpu.release(frames);
    });
  }
}
