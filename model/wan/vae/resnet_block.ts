import { channelNorm } from "../../../gpu/ops/channel_norm.ts";
import { conv3d } from "../../../gpu/ops/conv3d.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import type { Pass } from "../../vae/feature_cache.ts";
import { pointwise } from "../../vae/layers.ts";
import type { Conv, Pointwise, VaeWeights } from "../../vae/weights.ts";

/** Norm, SiLU and a causal convolution of kernel 3; also what encoder and decoder end in. */
export class NormConv {
  private constructor(private readonly dim: number, private readonly gamma: Tensor, private readonly conv: Conv) {}

  static async load(weights: VaeWeights, norm: string, conv: string, cin: number, cout: number): Promise<NormConv> {
    return new NormConv(cin, await weights.gamma(norm, cin, 3), await weights.conv(conv, cin, cout, [3, 3, 3]));
  }

  /** [frames, height, width, in] to [frames, height, width, out] */
  forward({ gpu, cache, most }: Pass, x: Tensor, residual?: Tensor): Tensor {
    const frame = x.shape.slice(1), pixels = frame[0]! * frame[1]!;
    const input = cache.extended(this, x.dim(0), frame, most), { tensor, ring, start } = input;
    channelNorm(gpu, x, this.gamma, this.dim, { silu: true, into: tensor, start: start * pixels });
    cache.written(this, input);
    return conv3d(gpu, tensor, this.conv.weight, this.conv.bias, { ring, ...residual && { residual } });
  }
}

/** diffusers' `WanResidualBlock`: twice norm, SiLU and a causal 3×3×3 convolution. */
export class ResnetBlock {
  private constructor(
    private readonly first: NormConv,
    private readonly second: NormConv,
    private readonly shortcut: Pointwise | undefined,
  ) {}

  static async load(weights: VaeWeights, name: string, cin: number, cout: number): Promise<ResnetBlock> {
    return new ResnetBlock(
      await NormConv.load(weights, `${name}.norm1`, `${name}.conv1`, cin, cout),
      await NormConv.load(weights, `${name}.norm2`, `${name}.conv2`, cout, cout),
      cin === cout ? undefined : await weights.pointwise(`${name}.conv_shortcut`, cin, cout),
    );
  }

  /** [frames, height, width, in] to [frames, height, width, out] */
  forward(pass: Pass, x: Tensor): Tensor {
    const { gpu } = pass;
    const hidden = this.first.forward(pass, x);
    const residual = this.shortcut ? pointwise(pass, x, this.shortcut) : x;
    const y = this.second.forward(pass, hidden, residual);
    gpu.release(hidden);
    if (residual !== x) gpu.release(residual);
    return y;
  }
}
