import type { Gpu } from "../../gpu/gpu.ts";
import { unpackPixels } from "../../gpu/ops/channel_blocks.ts";
import { conv3d } from "../../gpu/ops/conv3d.ts";
import { affineInPlace, clampInPlace, reluInPlace, softClamp } from "../../gpu/ops/elementwise.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import type { ChunkDecoder, HalfMemory, HalfWork } from "../vae/autoencoder.ts";
import type { Pass } from "../vae/feature_cache.ts";
import { type DecoderStage, decodingMemory, runStages } from "../vae/decoder_stages.ts";
import type { Layer } from "../vae/layers.ts";
import type { Conv, VaeWeights } from "../vae/weights.ts";

/** The number of a stage's first layer in the file, the layers of a stage, and the last convolution's number. */
const FIRST = 3, STAGE = 6, LAST = 22;
/** By how much each stage multiplies frames. */
const TIMES = [1, 2, 2] as const;
/** Frames of a latent frame; of the clip's first, only the last one is shown. */
const FRAMES = 4;
/** Latents are squeezed into −3…3. */
const LIMIT = 3;
/** The channels of a clip. */
const RGB = 3;

/** The sizes of a decoder, which are those of its tensors. */
export interface TinySizes {
  /** Channels of a latent. */
  readonly zDim: number;
  /** Channels of each stage, and of what comes out of the last. */
  readonly widths: readonly number[];
  /** The edge of the square of pixels that the last convolution makes as channels. */
  readonly patch: number;
}

/** Whether these are the weights of a TAEHV, which has diffusers' names nowhere. */
export function isTiny(source: TensorSource): boolean {
  return ["decoder.1.weight", `decoder.${FIRST}.conv.0.weight`, `decoder.${LAST}.weight`].every((name) =>
    source.has(name)
  );
}

/** Reads the sizes from the shapes of tensors. Loading checks them all. */
export function tinySizes(source: TensorSource): TinySizes {
  const shape = (name: string) => source.info(`decoder.${name}.weight`).shape;
  const [first = 0, zDim = 0] = shape("1"), outs = TIMES.map((_, i) => shape(String(FIRST + STAGE * i + 5))[0]!);
  return { zDim, widths: [first, ...outs], patch: Math.sqrt(shape(String(LAST))[0]! / RGB) };
}

/** A block that sees the frame before its own. */
class MemoryBlock implements Layer {
  private constructor(private readonly convs: readonly [first: Conv, second: Conv, third: Conv]) {}

  static async load(weights: VaeWeights, name: string, width: number): Promise<MemoryBlock> {
    return new MemoryBlock([
      await weights.pairConv(`${name}.conv.0`, width, width),
      await weights.conv(`${name}.conv.2`, width, width, [3, 3]),
      await weights.conv(`${name}.conv.4`, width, width, [3, 3]),
    ]);
  }

  /** relu(conv(relu(conv(relu(conv(frame, frame before))))) + frame) */
  forward({ gpu, cache, most }: Pass, x: Tensor): Tensor {
    const [first, second, third] = this.convs, { tensor, ring } = cache.extend(first, x, most, 1);
    const hidden = conv3d(gpu, tensor, first.weight, first.bias, { ring });
    reluInPlace(gpu, hidden);
    const again = conv3d(gpu, hidden, second.weight, second.bias);
    gpu.release(hidden);
    reluInPlace(gpu, again);
    const y = conv3d(gpu, again, third.weight, third.bias, { residual: x });
    gpu.release(again);
    reluInPlace(gpu, y);
    return y;
  }
}

/** Doubles the picture, multiplies frames, and changes the channels. */
class Grow implements Layer {
  private constructor(private readonly time: number, private readonly grow: Conv, private readonly conv: Conv) {}

  static async load(weights: VaeWeights, at: number, from: number, to: number, time: number): Promise<Grow> {
    return new Grow(
      time,
      await weights.lastRows(`decoder.${at}.conv`, from, time * from),
      await weights.conv(`decoder.${at + 1}`, from, to, [3, 3], { up: 2 }, { bias: false }),
    );
  }

  /** The 1×1 convolution comes first: it gives the same before the picture is doubled. */
  forward({ gpu }: Pass, x: Tensor): Tensor {
    const { time, grow, conv } = this, grown = conv3d(gpu, x, grow.weight, grow.bias, { interleave: time });
    const y = conv3d(gpu, grown, conv.weight, conv.bias, { up: 2 });
    gpu.release(grown);
    return y;
  }
}

/** The sizes of the stages. */
function stagesOf({ widths }: TinySizes): DecoderStage[] {
  return TIMES.map((time, i) => {
    const width = widths[i]!, up = { time, channels: widths[i + 1]! };
    return { up, past: { frames: 1, channels: 3 * width }, channels: time * Math.max(width, 4 * up.channels) };
  });
}

/**
 * The decoder of TAEHV (madebyollin/taehv): a small autoencoder, which was trained to decode the latents of a large one in
 * a fraction of its time and memory. It takes latents as the transformer has them.
 */
export class TinyDecoder implements ChunkDecoder {
  private constructor(
    private readonly gpu: Gpu,
    private readonly sizes: TinySizes,
    private readonly convIn: Conv,
    private readonly stages: readonly (DecoderStage & { readonly layers: readonly Layer[] })[],
    private readonly convOut: Conv,
  ) {}

  static async load(weights: VaeWeights, sizes: TinySizes): Promise<TinyDecoder> {
    const { zDim, widths, patch } = sizes, convIn = await weights.conv("decoder.1", zDim, widths[0]!, [3, 3]);
    const stages = [];
    for (const [i, stage] of stagesOf(sizes).entries()) {
      const at = FIRST + STAGE * i, layers: Layer[] = [], width = widths[i]!, { time, channels } = stage.up!;
      for (let j = 0; j < 3; j++) layers.push(await MemoryBlock.load(weights, `decoder.${at + j}`, width));
      layers.push(await Grow.load(weights, at + 4, width, channels, time));
      stages.push({ ...stage, layers });
    }
    // A square's pixels are row by row in the file, and column by column where they are unpacked.
    const rowOf = (n: number) => n - n % patch ** 2 + n % patch * patch + Math.floor(n % patch ** 2 / patch);
    const convOut = await weights.conv(`decoder.${LAST}`, widths.at(-1)!, RGB * patch ** 2, [3, 3], {}, { rowOf });
    return new TinyDecoder(weights.gpu, sizes, convIn, stages, convOut);
  }

  memory(work: HalfWork): HalfMemory {
    return decodingMemory(this.gpu, this.stages, work);
  }

  forward(pass: Pass, latents: Tensor, emit: (frames: Tensor) => void): void {
    const { gpu } = pass, squeezed = softClamp(gpu, latents, LIMIT);
    const x = conv3d(gpu, squeezed, this.convIn.weight, this.convIn.bias);
    gpu.release(squeezed);
    reluInPlace(gpu, x);
    let left = pass.first ? FRAMES - 1 : 0;
    const show = (frames: Tensor) => {
      const skipped = Math.min(left, frames.dim(0));
      left -= skipped;
      if (skipped === 0) return emit(frames);
      if (skipped === frames.dim(0)) return;
      const shown = gpu.tensor([frames.dim(0) - skipped, ...frames.shape.slice(1)]);
      gpu.copy(frames.slice(skipped, shown.dim(0)), shown);
      emit(shown);
      gpu.release(shown);
    };
    runStages(pass, this.stages, latents.dim(1) * latents.dim(2), x, (_, frames) => this.#finish(frames, show));
  }

  /** From the last stage to colours, which TAEHV has in 0…1. */
  #finish(x: Tensor, emit: (frames: Tensor) => void): void {
    const { gpu } = this;
    reluInPlace(gpu, x);
    const { weight, bias } = this.convOut, { patch } = this.sizes, packed = conv3d(gpu, x, weight, bias);
    gpu.release(x);
    const frames = patch === 1 ? packed : unpackPixels(gpu, packed, patch, RGB);
    if (frames !== packed) gpu.release(packed);
    affineInPlace(gpu, frames, 2, -1);
    clampInPlace(gpu, frames, -1, 1);
    emit(frames);
    gpu.release(frames);
  }
}
