/**
 * About how long a clip takes on a GPU, from what was measured on one GPU and what is published of both.
 *
 * @module
 */
import { type GpuModel, MEASURED_GPU } from "./gpus.ts";
import { RATES, type Rates } from "./rates.ts";

/** The work of a clip, by what takes its time. */
export interface ClipWork {
  /** Floating-point operations of all forward passes outside self-attention. */
  readonly linear: number;
  /** Those of full self-attention. */
  readonly attention: number;
  /** The share of self-attention that is computed. 1 is full attention. */
  readonly density: number;
  /** Bytes of activations that all passes read and write. */
  readonly bytes: number;
  /** Pixels of all frames that are decoded. */
  readonly pixels: number;
  /** Whether tokens are as wide as those of large models. */
  readonly width: "narrow" | "wide";
}

/** The sizes of a transformer and of its clip. */
export interface ClipShape {
  readonly layers: number;
  readonly dim: number;
  /** Weights of a layer that a token is multiplied by. */
  readonly layerWeights: number;
  /** Width between the two products of the feed-forward. */
  readonly ffnDim: number;
  /** Tokens of self-attention. */
  readonly tokens: number;
  /** Tokens of cross-attention; 0 where there is none. */
  readonly textTokens: number;
  readonly pixels: number;
}

/** The channels of a token up to which a model is narrow. */
export const NARROW = 2048;
/** Tensors of the width of the tokens that a layer reads and writes outside its products, and their bytes a number. */
export const TENSORS = 24, NUMBER_BYTES = 4;

/**
 * The work of a clip.
 *
 * @param passes forward passes of all steps
 */
export function clipWork(shape: ClipShape, passes: number, density: number): ClipWork {
  const { layers, dim, layerWeights, ffnDim, tokens, textTokens, pixels } = shape, all = passes * layers * tokens;
  return {
    linear: all * (2 * layerWeights + 4 * textTokens * dim),
    attention: all * 4 * tokens * dim,
    density,
    bytes: all * NUMBER_BYTES * (TENSORS * dim + 2 * ffnDim),
    pixels,
    width: dim > NARROW ? "wide" : "narrow",
  };
}

/** The pixels of the clip whose decoding was measured. */
const DECODED = 81 * 832 * 480;

/**
 * The seconds of a clip's steps and of its decoding. Matrix units take the time that their published rate allows. What
 * else was measured is divided by multiprocessors × clock, or without matrix units by the rate of f32 arithmetic.
 * Activations take the more time, the less bandwidth there is.
 */
export function clipSeconds(
  gpu: GpuModel,
  { linear, attention, density, bytes, pixels, width }: ClipWork,
  precision: "f16" | "int8",
  all = RATES,
): { readonly steps: number; readonly decode: number } {
  const measured = all[gpu.matrix ? "matrix" : "threads"], rates = measured[precision][width];
  const time = (flops: number, rate: Exclude<keyof Rates, "decode">) => flops / rateOn(gpu, rates[rate], precision);
  const moved = bytes / 1e9 * (1 / gpu.bandwidth - 1 / MEASURED_GPU.bandwidth);
  const { linear: usual } = measured.f16[width], slower = usual / rateOn(gpu, usual, "f16");
  return {
    steps: time(linear, "linear") + time(attention * density, density === 1 ? "dense" : "sparse") + Math.max(0, moved),
    decode: rates.decode * pixels / DECODED * slower,
  };
}

/** A rate that was measured, in FLOP/s, as it should be on another GPU. */
export function rateOn({ matrix, f32 }: GpuModel, measured: number, precision: "f16" | "int8"): number {
  if (!matrix) return measured * f32 / MEASURED_GPU.f32;
  const { matrix: of } = MEASURED_GPU as Required<GpuModel>;
  // A step in int8 has products in f16, too, so that its rate is never beyond its own.
  const units = (rates: typeof matrix) => 1e12 * rates[precision];
  const rest = Math.max(0, 1 / measured - 1 / units(of));
  return 1 / (rest * of.multiprocessorClock / matrix.multiprocessorClock + 1 / units(matrix));
}
