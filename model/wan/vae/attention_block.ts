import { channelNorm } from "../../../gpu/ops/channel_norm.ts";
import { fill } from "../../../gpu/ops/elementwise.ts";
import { linear } from "../../../gpu/ops/linear.ts";
import { softmaxInPlace } from "../../../gpu/ops/softmax.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import type { Pass } from "../../vae/feature_cache.ts";
import type { Linear } from "../../layers/linear.ts";
import type { VaeWeights } from "../../vae/weights.ts";

/** Scores of so many bytes are held at once; Wan's head of 384 is too wide for the attention kernels. */
const SCORE_BYTES = 2 ** 26;
/** Queries are taken in multiples of this, so that every part starts where a buffer can be bound. */
const QUERY_GRAIN = 64;

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
    ]);
    const [proj] = await weights.matrices(`${name}.proj`, dim, [{}]);
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
    // Comes out transposed, as the second product wants it. The weights of a row sum to 1: the bias can be added after.
    const v = linear(gpu, this.v.weight, normed);
    const mixed = gpu.tensor([padded, channels]);
    const step = Math.max(1, Math.floor(SCORE_BYTES / (padded * 4) / QUERY_GRAIN)) * QUERY_GRAIN;
    for (let start = 0; start < padded; start += step) {
      const count = Math.min(step, padded - start);
      const scores = linear(gpu, q.rows(start, count), k);
      softmaxInPlace(gpu, scores, pixels);
      // Of many pixels each weighs less than f16's least normal number, below which a GPU may take it for 0.
      linear(gpu, scores, v, { bias: this.v.bias, into: mixed.rows(start, count), precision: "f32" });
      gpu.release(scores);
    }
    return this.proj.apply(gpu, mixed.rows(0, pixels), { residual: x });
  }
}
