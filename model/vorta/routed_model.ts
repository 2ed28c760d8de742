/**
 * The interface between the trainer and a transformer, with arrays in this machine's memory.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import type { VideoTransformer } from "../family.ts";
import { type RouterShape, routerShape } from "./router.ts";
import { trainingPass, type TrainingPassInput, type TrainingPassResult } from "./training_pass.ts";

/** An array with its shape. */
export interface Shaped {
  readonly data: Float32Array;
  readonly shape: readonly number[];
}

/** As {@linkcode TrainingPassInput}, before it is uploaded. */
export interface RoutedPassInput extends Omit<TrainingPassInput, "noisy" | "target" | "conditioning"> {
  readonly noisy: Shaped;
  readonly target: Shaped;
  /** [1, tokens, text dim] */
  readonly textEmbeddings: Shaped;
}

/** A frozen transformer whose attention is routed. */
export interface RoutedModel extends RouterShape {
  /** @returns [dim]: the input of the routers at a timestep */
  timeEmbedding(timestep: number): Promise<Float32Array>;
  /** As `trainingPass`. */
  pass(input: RoutedPassInput): Promise<TrainingPassResult>;
}

/** Wraps the transformer on its GPU. */
export function routedModel(gpu: Gpu, transformer: VideoTransformer): RoutedModel {
  return {
    ...routerShape(transformer.shape),
    timeEmbedding: (timestep) => transformer.timeEmbedding([timestep]),
    async pass({ noisy, target, textEmbeddings, ...rest }) {
      using owner = new TensorOwner(gpu);
      const upload = ({ data, shape }: Shaped) => owner.adopt(gpu.upload(data, shape));
      return await trainingPass(gpu, transformer, {
        ...rest,
        noisy: upload(noisy),
        target: upload(target),
        conditioning: { text: upload(textEmbeddings) },
      });
    },
  };
}
