import type { Gpu } from "../../gpu/gpu.ts";
import { combine } from "../../gpu/ops/combine.ts";
import { layerNorm } from "../../gpu/ops/layer_norm.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { Linear } from "../layers/linear.ts";
import { loadNorm, type Norm } from "../layers/norm.ts";
import type { Weights } from "../weights/weights.ts";
import type { ImageTokens } from "./config.ts";

const EPS = 1e-5;

/** diffusers' `WanImageEmbedding`: makes the transformer's tokens of CLIP's. */
export class ImageEmbedder {
  private constructor(
    private readonly before: Norm,
    private readonly up: Linear,
    private readonly down: Linear,
    private readonly after: Norm,
    /** [1, tokens, image dim] */
    private readonly positions: Tensor | undefined,
  ) {}

  /** Loads `image_embedder`. */
  static async load(weights: Weights, { dim, positions }: ImageTokens, outputs: number): Promise<ImageEmbedder> {
    return new ImageEmbedder(
      await loadNorm(weights, "norm1", dim),
      await Linear.load(weights, "ff.net.0.proj", dim, dim),
      await Linear.load(weights, "ff.net.2", outputs, dim),
      await loadNorm(weights, "norm2", outputs),
      positions === undefined ? undefined : await weights.vector("pos_embed", [1, positions, dim]),
    );
  }

  /** [1, image tokens, image dim] to [1, image tokens, dim] */
  apply(gpu: Gpu, image: Tensor): Tensor {
    const { before, up, down, after, positions } = this;
    return gpu.scope(() => {
      const placed = positions ? combine(gpu, [[1, image], [1, positions]]) : image;
      const wide = up.applyInto(gpu, layerNorm(gpu, placed, EPS, before), down, { activation: "gelu" });
      return layerNorm(gpu, down.apply(gpu, wide), EPS, after);
    });
  }
}
