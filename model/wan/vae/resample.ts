import { conv3d } from "../../../gpu/ops/conv3d.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import type { Pass } from "../../vae/feature_cache.ts";
import type { Conv, VaeWeights } from "../../vae/weights.ts";

/** diffusers' `WanResample` of mode upsample2d or, with `time`, upsample3d. */
export class Upsample {
  private constructor(private readonly conv: Conv, private readonly timeConv: Conv | undefined) {}

  static async load(
    weights: VaeWeights,
    name: string,
    dim: number,
    { time, cout }: { readonly time: boolean; readonly cout: number },
  ): Promise<Upsample> {
    return new Upsample(
      await weights.conv(`${name}.resample.1`, dim, cout, [3, 3], { up: 2 }),
      time ? await weights.conv(`${name}.time_conv`, dim, 2 * dim, [3, 1, 1]) : undefined,
    );
  }

  /** [frames, height, width, in] to [frames or 2·frames, 2·height, 2·width, out] */
  forward({ gpu, cache, first, most }: Pass, x: Tensor): Tensor {
    const { conv, timeConv } = this;
    if (!timeConv || first) return conv3d(gpu, x, conv.weight, conv.bias, { up: 2 });
    // The clip's first frame is not among what the convolution in time sees: its past starts as zeros after it.
    const { tensor, ring } = cache.extend(timeConv, x, most);
    const doubled = conv3d(gpu, tensor, timeConv.weight, timeConv.bias, { ring, interleave: 2 });
    const y = conv3d(gpu, doubled, conv.weight, conv.bias, { up: 2 });
    gpu.release(doubled);
    return y;
  }
}

/** The spatial part of diffusers' `WanResample` of mode downsample2d or downsample3d. */
export class DownsampleSpace {
  private constructor(private readonly conv: Conv) {}

  static async load(weights: VaeWeights, name: string, dim: number): Promise<DownsampleSpace> {
    return new DownsampleSpace(await weights.conv(`${name}.resample.1`, dim, dim, [3, 3], { stride: 2 }));
  }

  /** [frames, height, width, channels] to [frames, ⌊height / 2⌋, ⌊width / 2⌋, channels] */
  forward({ gpu }: Pass, x: Tensor): Tensor {
    return conv3d(gpu, x, this.conv.weight, this.conv.bias, { stride: 2 });
  }
}

/** What mode downsample3d does behind it in time. */
export class DownsampleTime {
  private constructor(private readonly conv: Conv) {}

  static async load(weights: VaeWeights, name: string, dim: number): Promise<DownsampleTime> {
    return new DownsampleTime(await weights.conv(`${name}.time_conv`, dim, dim, [3, 1, 1]));
  }

  /** [frames, height, width, channels] to [frames / 2, height, width, channels]; a clip's first frame stays. */
  forward({ gpu, cache, first, most }: Pass, x: Tensor): Tensor {
    const { conv } = this, { tensor, ring } = cache.extend(conv, x, most, 1);
    if (!first) return conv3d(gpu, tensor, conv.weight, conv.bias, { ring, strideTime: 2 });
    const y = gpu.tensor(x.shape);
    gpu.copy(x, y);
    return y;
  }
}
