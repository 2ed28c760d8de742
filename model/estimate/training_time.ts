/**
 * About how long a sample of router training, or a state of tile training, takes on a GPU; see `clip_time.ts`.
 *
 * @module
 */
import type { HeadShape } from "../attention/layout.ts";
import { prefixesOf } from "../attention/layout.ts";
import { elementCount } from "../checkpoint/dtype.ts";
import type { FamilyModel } from "../family.ts";
import { rateOn } from "./clip_time.ts";
import type { GpuModel } from "./gpus.ts";
import { RATES } from "./rates.ts";

/** The work of one block for one sample, in floating-point operations. */
export interface BlockWork {
  /** Of all products of the forward pass but those of self-attention. */
  readonly linear: number;
  /** Of full self-attention in the forward pass. */
  readonly attention: number;
  readonly layers: number;
  /** Channels of a token. */
  readonly dim: number;
}

/**
 * The work of a block of a model, from the sizes of its weights.
 *
 * @param tokens of self-attention
 */
export function blockWork({ weights, shape }: Pick<FamilyModel, "weights" | "shape">, tokens: number): BlockWork {
  const prefixes = prefixesOf(shape), { layers, heads, headDim }: HeadShape = shape, dim = heads * headDim;
  const elements = weights.names().filter((name) => prefixes.some((prefix) => name.startsWith(prefix)))
    .map((name) => weights.info(name).shape).filter((shape) => shape.length === 2)
    .reduce((sum, shape) => sum + elementCount(shape), 0);
  return { linear: 2 * elements / layers * tokens, attention: 4 * tokens ** 2 * dim, layers, dim };
}

/** The products of attention's backward pass for each two of the forward pass: dq has three, dk and dv have four. */
const BACKWARD = 3.5;
/** The rate of attention's backward pass, and of the heat of tiles, as shares of the forward pass's, measured on an H200. */
const SHARES = { matrix: { backward: 1, heat: 0.59 }, threads: { backward: 0.5, heat: 0.5 } } as const;

function ratesOf(gpu: GpuModel, dim: number) {
  const way = gpu.matrix ? "matrix" : "threads", rates = RATES[way].f16[dim > 2048 ? "wide" : "narrow"];
  const dense = rateOn(gpu, rates.dense, "f16"), shares = SHARES[way];
  return {
    linear: rateOn(gpu, rates.linear, "f16"),
    dense,
    backward: dense * shares.backward,
    heat: dense * shares.heat,
  };
}

/**
 * The seconds of a sample of router training in f16. The student runs twice, with all three branches, the teacher once.
 *
 * @param densities the shares of pairs of the three branches, summed
 */
export function routerSampleSeconds(gpu: GpuModel, { linear, attention, layers, dim }: BlockWork, densities: number) {
  const rates = ratesOf(gpu, dim);
  const forward = attention * (2 * densities + 1) / rates.dense;
  const backward = BACKWARD * attention * densities / rates.backward;
  return layers * (forward + backward + 4 * linear / rates.linear);
}

/**
 * The seconds of a state of tile training in f16: the passes of a denoising step, and the heat of one of them.
 *
 * @param passes of a step
 */
export function tileStateSeconds(gpu: GpuModel, { linear, attention, layers, dim }: BlockWork, passes: number): number {
  const rates = ratesOf(gpu, dim);
  return layers * (passes * (attention / rates.dense + linear / rates.linear) + attention / 2 / rates.heat);
}
