import { linear } from "../../gpu/ops/linear.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { Pass } from "./feature_cache.ts";
import type { Pointwise } from "./weights.ts";

/** A layer of an autoencoder. Takes and gives [frames, height, width, channels]. */
export interface Layer {
  forward(pass: Pass, x: Tensor): Tensor;
}

/** Runs layers one behind the other, and frees what lies between, `x` included. */
export function runLayers(pass: Pass, layers: readonly Layer[], x: Tensor): Tensor {
  for (const layer of layers) {
    const y = layer.forward(pass, x);
    pass.gpu.release(x);
    x = y;
  }
  return x;
}

/** A 1×1×1 convolution, which is a linear layer on each pixel. */
export function pointwise({ gpu }: Pick<Pass, "gpu">, x: Tensor, { weight, bias }: Pointwise): Tensor {
  return linear(gpu, x, weight, { bias });
}
