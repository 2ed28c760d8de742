/**
 * How a router is steered to a density: the share of pairs of queries and keys that its routes keep.
 *
 * @module
 */
import type { TensorToWrite } from "../checkpoint/write_safetensors.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import { flowShift } from "../schedulers/sigmas.ts";
import { readFloat32 } from "../checkpoint/safetensors.ts";
import { type Branch, BRANCHES } from "./branch.ts";
import { TIMESTEPS } from "./recipe.ts";
import type { RoutedModel } from "./routed_model.ts";
import { type Router, routes } from "./router.ts";

/** The density of a router's routes at the threshold `tau`, given the shares of pairs of each branch. */
export type DensityMeter = (router: Router, tau: number, of: Readonly<Record<Branch, number>>) => number;

/** The number of timesteps that densities are means over. */
const LEVELS = 25;

/** Timesteps spread as those that a training draws, from the noisiest on. */
export function meteredTimesteps(shift = 1): number[] {
  return Array.from({ length: LEVELS }, (_, level) => TIMESTEPS * flowShift(1 - (level + 0.5) / LEVELS, shift));
}

/** Embeds the timesteps once. */
export async function meter(model: Pick<RoutedModel, "timeEmbedding">, shift?: number): Promise<DensityMeter> {
  const embedded: Float32Array[] = [];
  for (const timestep of meteredTimesteps(shift)) embedded.push(await model.timeEmbedding(timestep));
  return (router, tau, of) => {
    const shares = BRANCHES.map((branch) => of[branch]);
    const taken = embedded.flatMap((temb) => [...routes(router.scores(temb), tau)]);
    return taken.reduce((sum, branch) => sum + shares[branch]!, 0) / taken.length;
  };
}

/** How much the logarithm of the weight answers an error of the density, and the sum of all errors so far. */
const ANSWER = 4, ANSWER_TO_SUM = 0.4;
/** The largest change of that logarithm. */
const MOST = 8;
/** The weight that a search starts with that was given none. */
const LEAST = 1e-3;
/** The name of the sum in checkpoints. */
const SUM = "density_control.sum";

/** A controller (proportional and integral) of the weight of regularization, which draws heads from full attention. */
export class DensityControl {
  readonly #start: number;
  #sum = 0;
  #error = 0;

  /**
   * @param target the density that it aims at
   * @param start the weight before the first step; a small one in place of 0, which nothing could change
   */
  constructor(private readonly target: number, start: number) {
    this.#start = start || LEAST;
  }

  /** The weight for the next step. */
  get weight(): number {
    const exponent = ANSWER * this.#error + ANSWER_TO_SUM * this.#sum;
    return this.#start * Math.exp(Math.max(-MOST, Math.min(MOST, exponent)));
  }

  /** Is told the density after a step. */
  observe(density: number): void {
    // As checkpoints hold them, so that a training that is resumed goes on as an uninterrupted one.
    this.#error = Math.fround(density - this.target);
    const most = MOST / ANSWER_TO_SUM;
    this.#sum = Math.fround(Math.max(-most, Math.min(most, this.#sum + this.#error)));
  }

  /** Its state, for a checkpoint. */
  tensors(): Record<string, TensorToWrite> {
    return { [SUM]: { dtype: "F32", shape: [2], data: Float32Array.of(this.#sum, this.#error) } };
  }

  /** Goes on from a checkpoint. */
  async load(checkpoint: TensorSource): Promise<void> {
    const [sum, error] = await readFloat32(checkpoint, SUM);
    this.#sum = sum!;
    this.#error = error!;
  }
}
