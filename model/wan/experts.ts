import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { HeadShape, TokenLayout } from "../attention/layout.ts";
import type { Conditioning, EmbeddedPass, ForwardPass, RunLayer, VideoTransformer } from "../family.ts";
import type { WanTransformer3DModel } from "./transformer.ts";

/**
 * Two transformers, one for high noise and one for low noise. The blocks of one of them are on the GPU at a time: those of
 * the other are read when its time has come, which is once in a clip.
 */
export class Experts implements VideoTransformer {
  #current: WanTransformer3DModel | undefined;

  /** @param boundary the timestep below which noise is low */
  constructor(
    private readonly gpu: Gpu,
    private readonly high: WanTransformer3DModel,
    private readonly low: WanTransformer3DModel,
    private readonly boundary: number,
  ) {}

  get shape(): HeadShape {
    return this.high.shape;
  }

  layout(latents: readonly number[], conditioning: Conditioning): TokenLayout {
    return this.high.layout(latents, conditioning);
  }

  async predict(passes: readonly ForwardPass[]): Promise<Tensor[]> {
    const expert = this.#of(passes[0]!.timesteps[0]!), before = this.#current;
    if (before && before !== expert) {
      before.dropBlocks();
      // Its memory is free once its last work is done.
      await this.gpu.finish();
      this.gpu.trim();
    }
    this.#current = expert;
    return await expert.predict(passes);
  }

  async timeEmbedding(timesteps: readonly number[]): Promise<Float32Array> {
    const rows = await Promise.all([this.high, this.low].map((expert) => expert.timeEmbedding(timesteps)));
    const dim = rows[0]!.length / timesteps.length, y = rows[0]!.slice();
    for (const [i, timestep] of timesteps.entries()) {
      if (this.#of(timestep) === this.low) y.set(rows[1]!.subarray(i * dim, (i + 1) * dim), i * dim);
    }
    return y;
  }

  dropBlocks(): void {
    this.#current?.dropBlocks();
    this.#current = undefined;
  }

  embed(): EmbeddedPass {
    throw new TilereelError("a model of two transformers cannot be trained for; use one that has a single transformer");
  }

  runBlock(): Tensor {
    return this.embed().x;
  }

  layer(): Promise<RunLayer> {
    return Promise.resolve(() => this.runBlock());
  }

  project(): Tensor {
    return this.embed().x;
  }

  [Symbol.dispose](): void {
    for (const expert of [this.high, this.low]) expert[Symbol.dispose]();
  }

  #of(timestep: number): WanTransformer3DModel {
    return timestep >= this.boundary ? this.high : this.low;
  }
}
