import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { Linear } from "../layers/linear.ts";
import { timestepEmbedding } from "../layers/timestep_embedding.ts";
import type { Weights } from "../weights/weights.ts";

/** The number of channels of the sinusoidal embedding of a number. */
const SINUSOID = 256;

/** Two linear layers with SiLU between them. */
export class Embedder {
  private constructor(private readonly first: Linear, private readonly second: Linear) {}

  /** Loads `name`, which takes vectors of `inputs` channels. */
  static async load(weights: Weights, name: string, dim: number, inputs = SINUSOID): Promise<Embedder> {
    const scope = weights.scope(`${name}.`);
    return new Embedder(
      await Linear.load(scope, "linear_1", dim, inputs),
      await Linear.load(scope, "linear_2", dim, dim),
    );
  }

  /** @param x [batch, inputs] */
  apply(gpu: Gpu, x: Tensor): Tensor {
    return gpu.scope(() => this.second.apply(gpu, this.first.apply(gpu, x, { activation: "silu" })));
  }

  /** Embeds numbers such as timesteps: [numbers, dim]. */
  ofNumbers(gpu: Gpu, numbers: readonly number[]): Tensor {
    return gpu.scope(() =>
      this.apply(gpu, gpu.upload(timestepEmbedding(numbers, SINUSOID), [numbers.length, SINUSOID]))
    );
  }
}
