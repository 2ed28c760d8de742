import type { Gpu } from "../gpu.ts";
import { type ConvVariant, type WeightLayout, weightLayout, type WeightUse } from "../kernels/conv3d/variants.ts";
import { packWindowWeights, windowWeightsShape } from "../kernels/conv3d/window_weights.ts";
import { POSITIONS, WINOGRAD_WEIGHTS } from "../kernels/conv3d/winograd.ts";
import { runPerElement } from "../kernels/per_element.ts";
import type { Tensor } from "../tensor.ts";
import { packHalves } from "./pack_halves.ts";

/** The weights of a convolution in the layout that its kernel reads. */
export class ConvWeight {
  private constructor(
    /** [out, kernel frames, kernel height, kernel width, in] */
    readonly shape: readonly number[],
    readonly layout: WeightLayout,
    readonly use: WeightUse,
    readonly tensor: Tensor,
  ) {}

  /**
   * Converts weights. The result has a tensor of its own, except where kernels read the weights as they are.
   *
   * @param weight [out, kernel frames, kernel height, kernel width, in], f32
   * @param use the options of the convolution that the layout depends on
   * @param variant of the device, or by which the convolution is to be computed
   */
  static of(gpu: Gpu, weight: Tensor, use: WeightUse, variant: ConvVariant): ConvWeight {
    const { shape } = weight, [out, frames, , , cin] = shape as [number, number, number, number, number];
    if (!gpu.f16) return new ConvWeight(shape, { by: "rows" }, use, weight);
    const layout = weightLayout(gpu, shape, use, variant);
    if (layout.by === "windows") {
      const { by: _, ...by } = layout, y = gpu.tensor(windowWeightsShape(by, shape), "f16");
      runPerElement(gpu, packWindowWeights(by), { x: weight, y }, { out, frames, eights: cin / 8 });
      return new ConvWeight(shape, layout, use, y);
    }
    if (layout.by === "squares") {
      const y = gpu.tensor([POSITIONS, out, frames, cin], "f16");
      runPerElement(gpu, WINOGRAD_WEIGHTS, { x: weight, y }, { c4: cin / 4 }, out * frames * cin / 4);
      return new ConvWeight(shape, layout, use, y);
    }
    return new ConvWeight(shape, layout, use, packHalves(gpu, weight));
  }
}
