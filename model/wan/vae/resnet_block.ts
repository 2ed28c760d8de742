import { channelNorm } from "../../../gpu/ops/channel_norm.ts";
import { conv3d } from "../../../gpu/ops/conv3d.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import { type Pass, PAST } from "../../vae/feature_cache.ts";
import { pointwise } from "../../vae/layers.ts";
import type { Conv, VaeWeights } from "../../vae/weights.ts";

/** Norm, SiLU and a causal convolution of kernel 3; also what encoder and decoder end in. */
export class NormConv {
  private constructor(private readonly dim: number, private readonly gamma: Tensor, private readonly conv: Conv) {}

  static async load(weights: VaeWeights, norm: string, conv: string, cin: number, cout: number): Promise<NormConv> {
    return new NormConv(cin, await weights.gamma(norm, cin, 3), await weights.conv(conv, cin, cout, [3, 3, 3]));
  }

  /** [frames, height, width, in] to [frames, height, width, out] */
  forward({ gpu, cache }: Pass, x: Tensor, residual?: Tensor): Tensor {
    const frame = x.shape.slice(1), pixels = frame[0]! * frame[1]!;
    const past = cache.extended(this, x.dim(0), frame);
    channelNorm(gpu, x, this.gamma, this.dim, { silu: true, into: past, start: PAST * pixels });
    cache.keep(this, past);
    const y = conv3d(gpu, past, this.conv.weight, this.conv.bias, residual ? { residual } : {});
    gpu.release(past);
    return y;
  }
}

/** diffusers' `WanResidualBlock`: twice norm, SiLU and a causal 3×3×3 convolution. */
export class ResnetBlock {
  private constructor(
    private readonly first: NormConv,
    private readonly second: NormConv,
    private readonly shortcut: Conv | undefined,
  ) {}

  static async load(weights: VaeWeights, name: string, cin: number, cout: number): Promise<ResnetBlock> {
    return new ResnetBlock(
      await NormConv.load(weights, `${name}.norm1`, `${name}.conv1`, cin, cout),
      await NormConv.load(weights, `${name}.norm2`, `${name}.conv2`, cout, cout),
      cin === cout ? undefined : await weights.conv(`${name}.conv_shortcut`, cin, cout, [1, 1, 1]),
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
