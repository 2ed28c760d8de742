import type { Gpu } from "../../../gpu/gpu.ts";
import { packPixels } from "../../../gpu/ops/channel_blocks.ts";
import { conv3d } from "../../../gpu/ops/conv3d.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import type { ChunkEncoder, HalfMemory, HalfWork } from "../../vae/autoencoder.ts";
import { CLIP_CHANNELS, type VaeConfig } from "./config.ts";
import { type Pass, PAST } from "../../vae/feature_cache.ts";
import { type Layer, pointwise, runLayers } from "../../vae/layers.ts";
import { loadMidBlock } from "./mid_block.ts";
import { eachPiece, inputBytes, joinPieces, OUTPUT_BYTES, pieceFrames } from "../../vae/pieces.ts";
import { DownsampleSpace, DownsampleTime } from "./resample.ts";
import { NormConv, ResnetBlock } from "./resnet_block.ts";
import { Bridged, downShortcut, type Shortcut } from "./shortcut.ts";
import type { Conv, Pointwise, VaeWeights } from "../../vae/weights.ts";

/** One resolution of the encoder. */
interface Stage {
  readonly cin: number;
  readonly cout: number;
}

/** The stages of a configuration, highest resolution first. */
function stagesOf({ baseDim, dimMult }: VaeConfig): Stage[] {
  return dimMult.map((mult, i) => ({ cin: baseDim * (i === 0 ? 1 : dimMult[i - 1]!), cout: baseDim * mult }));
}

/** Numbers of the largest tensor that one frame of a stage makes, for a picture of so many pixels. */
function frameNumbers({ cin, cout }: Stage, index: number, pixels: number): number {
  return pixels / 4 ** index * Math.max(cin, cout);
}

/** How many of a stage's largest tensors lie in memory at once, beside those that wait. */
const LIVE_TENSORS = 4;

/** What encoding holds. */
function encoderMemory(gpu: Gpu, config: VaeConfig, { latentPixels, frames, pieceBytes }: HalfWork): HalfMemory {
  const pixels = latentPixels * (config.spatialScale / config.patch) ** 2;
  let largest = 0, past = 0, live = 0, waiting = 0, given = frames * config.temporalScale;
  for (const [i, stage] of stagesOf(config).entries()) {
    const numbers = frameNumbers(stage, i, pixels), most = Math.min(given, pieceFrames(gpu, pieceBytes, numbers));
    largest = Math.max(largest, most * numbers * OUTPUT_BYTES, (PAST + most) * numbers * inputBytes(gpu));
    past += (PAST + most) * inputBytes(gpu) * pixels / 4 ** i * (stage.cin + 2 * config.numResBlocks * stage.cout);
    // The frames that come in wait, and those that come out are joined.
    waiting = Math.max(waiting, 2 * given * numbers * OUTPUT_BYTES);
    live = Math.max(live, LIVE_TENSORS * most * numbers * OUTPUT_BYTES);
    if (config.temporalDownsample[i]) given = Math.ceil(given / 2);
  }
  return { largest, held: past + live + waiting };
}

/** diffusers' `WanEncoder3d` with `quant_conv` behind it. */
export class Encoder implements ChunkEncoder {
  private constructor(
    private readonly gpu: Gpu,
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
    private readonly quant: Pointwise,
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
    const quant = await weights.pointwise("quant_conv", 2 * zDim, 2 * zDim);
    return new Encoder(weights.gpu, config, convIn, loaded, mid, head, quant);
  }

  memory(work: HalfWork): HalfMemory {
    return encoderMemory(this.gpu, this.config, work);
  }

  forward(pass: Pass, frames: Tensor): Tensor {
    const { gpu, cache } = pass, { patch } = this.config;
    let x = patch === 1 ? frames : packPixels(gpu, frames, patch, CLIP_CHANNELS);
    if (x !== frames) gpu.release(frames);
    const pixels = x.dim(1) * x.dim(2);
    let given = pass.most * this.config.temporalScale;
    for (const [i, stage] of this.stages.entries()) {
      const most = Math.min(given, pieceFrames(gpu, pass.pieceBytes, frameNumbers(stage, i, pixels)));
      const within = { ...pass, most };
      const done: Tensor[] = [], input = stage.shortcut && copyOf(gpu, x);
      eachPiece(gpu, x, most, (piece) => {
        if (i === 0) {
          const { tensor, ring } = cache.extend(this.convIn, piece, most);
          gpu.release(piece);
          piece = conv3d(gpu, tensor, this.convIn.weight, this.convIn.bias, { ring });
        }
        done.push(runLayers(within, stage.layers, piece));
      });
      x = joinPieces(gpu, done);
      if (stage.time) {
        x = runLayers({ ...pass, most: given }, [stage.time], x);
        given = Math.ceil(given / 2);
      }
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
