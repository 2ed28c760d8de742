import type { Gpu } from "../../../gpu/gpu.ts";
import { packPixels } from "../../../gpu/ops/channel_blocks.ts";
import { conv3d } from "../../../gpu/ops/conv3d.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import type { ChunkEncoder } from "../../vae/autoencoder.ts";
import { CLIP_CHANNELS, type VaeConfig } from "./config.ts";
import { type Pass, PAST } from "../../vae/feature_cache.ts";
import { type Layer, pointwise, runLayers } from "../../vae/layers.ts";
import { loadMidBlock } from "./mid_block.ts";
import { eachPiece, joinPieces, pieceFrames } from "../../vae/pieces.ts";
import { DownsampleSpace, DownsampleTime } from "./resample.ts";
import { NormConv, ResnetBlock } from "./resnet_block.ts";
import { Bridged, downShortcut, type Shortcut } from "./shortcut.ts";
import type { Conv, VaeWeights } from "../../vae/weights.ts";

/** One resolution of the encoder. */
interface Stage {
  readonly cin: number;
  readonly cout: number;
}

/** The stages of a configuration, highest resolution first. */
function stagesOf({ baseDim, dimMult }: VaeConfig): Stage[] {
  return dimMult.map((mult, i) => ({ cin: baseDim * (i === 0 ? 1 : dimMult[i - 1]!), cout: baseDim * mult }));
}

/** Bytes of the largest tensor that one frame of a stage makes, for a picture of so many pixels. */
function frameBytes({ cin, cout }: Stage, index: number, pixels: number): number {
  return 4 * pixels / 4 ** index * Math.max(cin, cout);
}

/**
 * What encoding to latents of so many pixels holds, if frames are worked on one by one.
 *
 * @returns bytes of the largest tensor, and of what is remembered from chunk to chunk
 */
export function encoderMemory(config: VaeConfig, latentPixels: number): { largest: number; past: number } {
  const pixels = latentPixels * (config.spatialScale / config.patch) ** 2;
  let largest = 0, past = 0;
  for (const [i, stage] of stagesOf(config).entries()) {
    largest = Math.max(largest, (PAST + 1) * frameBytes(stage, i, pixels));
    past += PAST * 4 * pixels / 4 ** i * (stage.cin + 2 * config.numResBlocks * stage.cout);
  }
  return { largest, past };
}

/** diffusers' `WanEncoder3d` with `quant_conv` behind it. */
export class Encoder implements ChunkEncoder {
  private constructor(
    private readonly config: VaeConfig,
    private readonly convIn: Conv,
    private readonly stages: readonly (Stage & {
      readonly layers: readonly Layer[];
      readonly time: DownsampleTime | undefined;
      /** Round the step in time, too: of the whole chunk. Others are among the layers. */
      readonly shortcut: Shortcut | undefined;
    })[],
    private readonly mid: readonly Layer[],
    private readonly head: NormConv,
    private readonly quant: Conv,
  ) {}

  static async load(weights: VaeWeights, config: VaeConfig): Promise<Encoder> {
    const { zDim, numResBlocks, temporalDownsample, baseDim, patch, shortcuts } = config;
    const stages = stagesOf(config);
    const convIn = await weights.conv("encoder.conv_in", CLIP_CHANNELS * patch ** 2, baseDim, [3, 3, 3]);
    const loaded = [];
    let block = 0;
    for (const [i, stage] of stages.entries()) {
      // In Wan 2.1's, all blocks and steps stand in one list.
      const name = (part: string) => `encoder.down_blocks.${shortcuts ? `${i}.${part}` : block++}`;
      const layers: Layer[] = [], isLast = i === stages.length - 1, halves = !isLast && temporalDownsample[i]!;
      for (let j = 0; j < numResBlocks; j++) {
        const cin = j === 0 ? stage.cin : stage.cout;
        layers.push(await ResnetBlock.load(weights, name(`resnets.${j}`), cin, stage.cout));
      }
      let time: DownsampleTime | undefined;
      if (!isLast) {
        const step = name("downsampler");
        layers.push(await DownsampleSpace.load(weights, step, stage.cout));
        if (halves) time = await DownsampleTime.load(weights, step, stage.cout);
      }
      const size = { time: halves ? 2 : 1, space: isLast ? 1 : 2 } as const;
      const shortcut = shortcuts ? downShortcut(size, { from: stage.cin, to: stage.cout }) : undefined;
      loaded.push({
        ...{ ...stage, time, shortcut: time && shortcut },
        layers: shortcut && !time ? [new Bridged(layers, shortcut)] : layers,
      });
    }
    const dim = stages.at(-1)!.cout;
    const mid = await loadMidBlock(weights, "encoder.mid_block", dim);
    const head = await NormConv.load(weights, "encoder.norm_out", "encoder.conv_out", dim, 2 * zDim);
    const quant = await weights.conv("quant_conv", 2 * zDim, 2 * zDim, [1, 1, 1]);
    return new Encoder(config, convIn, loaded, mid, head, quant);
  }

  memory(latentPixels: number): { largest: number; past: number } {
    return encoderMemory(this.config, latentPixels);
  }

  forward(pass: Pass, frames: Tensor): Tensor {
    const { gpu, cache } = pass, { patch } = this.config;
    let x = patch === 1 ? frames : packPixels(gpu, frames, patch, CLIP_CHANNELS);
    if (x !== frames) gpu.release(frames);
    const pixels = x.dim(1) * x.dim(2);
    for (const [i, stage] of this.stages.entries()) {
      const most = pieceFrames(gpu, pass.pieceBytes, frameBytes(stage, i, pixels));
      const done: Tensor[] = [], input = stage.shortcut && copyOf(gpu, x);
      eachPiece(gpu, x, most, (piece) => {
        if (i === 0) {
          const past = cache.extend(this.convIn, piece);
          gpu.release(piece);
          piece = conv3d(gpu, past, this.convIn.weight, this.convIn.bias);
          gpu.release(past);
        }
        done.push(runLayers(pass, stage.layers, piece));
      });
      x = joinPieces(gpu, done);
      if (stage.time) x = runLayers(pass, [stage.time], x);
      if (stage.shortcut && input) {
        const y = stage.shortcut.add(pass, x, input);
        for (const tensor of [x, input]) gpu.release(tensor);
        x = y;
      }
    }
    x = runLayers(pass, [...this.mid, this.head], x);
    const moments = pointwise(pass, x, this.quant);
    gpu.release(x);
    return moments;
  }
}

function copyOf(gpu: Gpu, x: Tensor): Tensor {
  const y = gpu.tensor(x.shape);
  gpu.copy(x, y);
  return y;
}
