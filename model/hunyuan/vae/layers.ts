import type { Gpu } from "../../../gpu/gpu.ts";
import { conv3d, type Conv3dOptions, convInputFormat } from "../../../gpu/ops/conv3d.ts";
import { groupNorm, type GroupNormOptions } from "../../../gpu/ops/group_norm.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import { pointwise } from "../../vae/layers.ts";
import type { Conv, Pointwise, VaeWeights } from "../../vae/weights.ts";

/**
 * Takes [frames, height, width, channels] over, and gives such frames. Unlike Wan's layers, these see all frames of a
 * chunk at once.
 */
export interface ChunkLayer {
  forward(gpu: Gpu, x: Tensor): Tensor;
}

/** diffusers' `HunyuanVideoCausalConv3d` of kernel 3, with what comes before it in an up- or downsampler. */
export class CausalConv implements ChunkLayer {
  private constructor(private readonly conv: Conv, private readonly options: Conv3dOptions) {}

  static async load(
    weights: VaeWeights,
    name: string,
    cin: number,
    cout: number,
    options: Conv3dOptions = {},
  ): Promise<CausalConv> {
    return new CausalConv(await weights.conv(`${name}.conv`, cin, cout, [3, 3, 3], options), options);
  }

  forward(gpu: Gpu, x: Tensor, residual?: Tensor): Tensor {
    const { weight, bias } = this.conv;
    const y = conv3d(gpu, x, weight, bias, { border: "replicate", ...this.options, ...residual && { residual } });
    gpu.release(x);
    return y;
  }
}

/** Group norm over all pixels of a chunk. */
export class GroupNorm {
  private constructor(
    private readonly gamma: Tensor,
    private readonly beta: Tensor,
    private readonly groups: Pick<GroupNormOptions, "groups" | "dim">,
  ) {}

  static async load(weights: VaeWeights, name: string, dim: number, groups: number): Promise<GroupNorm> {
    const { gamma, beta } = await weights.affine(name, dim);
    return new GroupNorm(gamma, beta, { groups, dim });
  }

  /** The shape of x. */
  apply(gpu: Gpu, x: Tensor): Tensor {
    return groupNorm(gpu, x, this.gamma, this.beta, this.groups);
  }

  /** With SiLU, as the input of a convolution. x stays the caller's if `kept`, and else it is taken over. */
  activate(gpu: Gpu, x: Tensor, kept = false): Tensor {
    const format = convInputFormat(gpu), into = format === "f32" && !kept ? "x" : format;
    const y = groupNorm(gpu, x, this.gamma, this.beta, { ...this.groups, silu: true, into });
    if (y !== x && !kept) gpu.release(x);
    return y;
  }
}

/** Norm, SiLU and convolution: what encoder and decoder end in. */
export class Head implements ChunkLayer {
  private constructor(private readonly norm: GroupNorm, private readonly conv: CausalConv) {}

  static async load(weights: VaeWeights, half: string, cin: number, cout: number, groups: number): Promise<Head> {
    return new Head(
      await GroupNorm.load(weights, `${half}.conv_norm_out`, cin, groups),
      await CausalConv.load(weights, `${half}.conv_out`, cin, cout),
    );
  }

  forward(gpu: Gpu, x: Tensor): Tensor {
    return this.conv.forward(gpu, this.norm.activate(gpu, x));
  }
}

/** diffusers' `HunyuanVideoResnetBlockCausal3D`. */
export class ResnetBlock implements ChunkLayer {
  private constructor(
    private readonly norm1: GroupNorm,
    private readonly conv1: CausalConv,
    private readonly norm2: GroupNorm,
    private readonly conv2: CausalConv,
    private readonly shortcut: Pointwise | undefined,
  ) {}

  static async load(
    weights: VaeWeights,
    name: string,
    cin: number,
    cout: number,
    groups: number,
  ): Promise<ResnetBlock> {
    return new ResnetBlock(
      await GroupNorm.load(weights, `${name}.norm1`, cin, groups),
      await CausalConv.load(weights, `${name}.conv1`, cin, cout),
      await GroupNorm.load(weights, `${name}.norm2`, cout, groups),
      await CausalConv.load(weights, `${name}.conv2`, cout, cout),
      cin === cout ? undefined : await weights.pointwise(`${name}.conv_shortcut.conv`, cin, cout),
    );
  }

  forward(gpu: Gpu, x: Tensor): Tensor {
    // At the highest resolution these are the largest tensors there are: x is overwritten where it is not added later.
    const residual = this.shortcut ? pointwise({ gpu }, x, this.shortcut) : x;
    const hidden = this.conv1.forward(gpu, this.norm1.activate(gpu, x, residual === x));
    const y = this.conv2.forward(gpu, this.norm2.activate(gpu, hidden), residual);
    gpu.release(residual);
    return y;
  }
}
