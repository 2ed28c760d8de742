import { channelNorm } from "../../../gpu/ops/channel_norm.ts";
import { fill } from "../../../gpu/ops/elementwise.ts";
import { linear } from "../../../gpu/ops/linear.ts";
import { wideAttention } from "../../../gpu/ops/wide_attention.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import type { Pass } from "../../vae/feature_cache.ts";
import type { Linear } from "../../layers/linear.ts";
import type { VaeWeights } from "../../vae/weights.ts";

/** diffusers' `WanAttentionBlock`: self-attention between a frame's pixels, with one head as wide as the channels. */
export class AttentionBlock {
  private constructor(
    private readonly dim: number,
    private readonly gamma: Tensor,
    private readonly q: Linear,
    private readonly k: Linear,
    private readonly v: Linear,
    private readonly proj: Linear,
  ) {}

  static async load(weights: VaeWeights, name: string, dim: number): Promise<AttentionBlock> {
    const gamma = await weights.gamma(`${name}.norm`, dim, 2);
    const [q, k, v] = await weights.matrices(`${name}.to_qkv`, dim, [
      { scale: 1 / Math.sqrt(dim) },
      { start: dim },
      { start: 2 * dim },
    ], [1, 1]);
    const [proj] = await weights.matrices(`${name}.proj`, dim, [{}], [1, 1]);
    return new AttentionBlock(dim, gamma, q!, k!, v!, proj!);
  }

  /** [frames, height, width, channels], and so the result */
  forward(pass: Pass, x: Tensor): Tensor {
    const { gpu } = pass;
    const [frames, height, width, channels] = x.shape as [number, number, number, number];
    const y = gpu.tensor(x.shape);
    for (let t = 0; t < frames; t++) {
      gpu.scope(() => {
        const frame = gpu.tensor([height * width, channels]);
        gpu.copy(x.slice(t, 1), frame);
        gpu.copy(this.#frame(pass, frame), y.slice(t, 1));
      });
    }
    return y;
  }

  /** [pixels, channels], and so the result */
  #frame({ gpu }: Pass, x: Tensor): Tensor {
    const [pixels, channels] = x.shape as [number, number];
    // Matrix products need a multiple of 4 along the axis that they sum: pixels of zeros without weight make it one.
    const padded = Math.ceil(pixels / 4) * 4;
    const normed = gpu.tensor([padded, channels]);
    if (padded > pixels) fill(gpu, normed, 0);
    channelNorm(gpu, x, this.gamma, this.dim, { into: normed });
    const q = this.q.apply(gpu, normed);
    const k = this.k.apply(gpu, normed);
    // Comes out transposed, as the second product wants it.
    const v = linear(gpu, this.v.weight, normed);
    const mixed = gpu.tensor([padded, channels]);
    wideAttention(gpu, { q, k, v, bias: this.v.bias, keys: pixels, into: mixed });
    return this.proj.apply(gpu, mixed.rows(0, pixels), { residual: x });
  }
}
