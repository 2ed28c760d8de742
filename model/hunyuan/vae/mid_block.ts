import type { Gpu } from "../../../gpu/gpu.ts";
import { fill } from "../../../gpu/ops/elementwise.ts";
import { linear } from "../../../gpu/ops/linear.ts";
import { wideAttention } from "../../../gpu/ops/wide_attention.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import type { Linear } from "../../layers/linear.ts";
import type { VaeWeights } from "../../vae/weights.ts";
import { type ChunkLayer, GroupNorm, ResnetBlock } from "./layers.ts";

/** diffusers' `HunyuanVideoMidBlock3D`: residual block, attention, residual block. */
export async function loadMidBlock(
  weights: VaeWeights,
  name: string,
  dim: number,
  groups: number,
): Promise<ChunkLayer[]> {
  return [
    await ResnetBlock.load(weights, `${name}.resnets.0`, dim, dim, groups),
    await AttentionBlock.load(weights, `${name}.attentions.0`, dim, groups),
    await ResnetBlock.load(weights, `${name}.resnets.1`, dim, dim, groups),
  ];
}

/** Matrix products need a multiple of 4 along the axis they add up. */
const four = (count: number) => Math.ceil(count / 4) * 4;

/** Self-attention with a single head as wide as the channels. A pixel sees all pixels of its frame and of those before. */
class AttentionBlock implements ChunkLayer {
  private constructor(
    private readonly norm: GroupNorm,
    private readonly q: Linear,
    private readonly k: Linear,
    private readonly v: Linear,
    private readonly out: Linear,
  ) {}

  static async load(weights: VaeWeights, name: string, dim: number, groups: number): Promise<AttentionBlock> {
    const norm = await GroupNorm.load(weights, `${name}.group_norm`, dim, groups);
    const layer = async (name: string, scale = 1) => {
      // In ComfyUI's files, linear layers are convolutions.
      const isConv = weights.source.info(`${name}.weight`).shape.length > 2;
      return (await weights.matrices(name, dim, [{ scale }], isConv ? [1, 1, 1] : []))[0]!;
    };
    return new AttentionBlock(
      norm,
      await layer(`${name}.to_q`, 1 / Math.sqrt(dim)),
      await layer(`${name}.to_k`),
      await layer(`${name}.to_v`),
      await layer(`${name}.to_out.0`),
    );
  }

  forward(gpu: Gpu, x: Tensor): Tensor {
    const [frames, height, width, channels] = x.shape as [number, number, number, number];
    const pixels = height * width, tokens = frames * pixels;
    const y = gpu.tensor(x.shape);
    gpu.scope(() => {
      const normed = gpu.tensor([four(tokens), channels]);
      if (four(tokens) > tokens) fill(gpu, normed, 0);
      gpu.copy(this.norm.apply(gpu, x).reshape([tokens, channels]), normed.slice(0, tokens));
      const k = this.k.apply(gpu, normed);
      const mixed = gpu.tensor([tokens, channels]);
      for (let frame = 0; frame < frames; frame++) {
        const start = frame * pixels, keys = start + pixels;
        gpu.scope(() => {
          const queries = gpu.tensor([pixels, channels]), into = gpu.tensor([pixels, channels]);
          gpu.copy(normed.slice(start, pixels), queries);
          // Values come out transposed, as the second product wants them.
          wideAttention(gpu, {
            q: this.q.apply(gpu, queries),
            k: k.rows(0, four(keys)),
            v: linear(gpu, this.v.weight, normed.rows(0, four(keys))),
            bias: this.v.bias,
            keys,
            into,
          });
          gpu.copy(into, mixed.slice(start, pixels));
        });
      }
      const residual = x.reshape([tokens, channels]);
      this.out.apply(gpu, mixed, { residual, into: y.reshape([tokens, channels]) });
    });
    gpu.release(x);
    return y;
  }
}
