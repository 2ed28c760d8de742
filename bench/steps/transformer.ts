/**
 * A transformer of a shape with random weights, and its operands, to be timed whole or by the block.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { SelfAttention } from "../../model/attention/method.ts";
import type { ForwardPass } from "../../model/family.ts";
import { WanTransformer3DModel } from "../../model/wan/transformer.ts";
import { randomSource } from "../full_size/random_source.ts";
import { transformerTensors } from "../full_size/tensor_spec.ts";
import { normalTensor } from "../random.ts";
import type { WanShape } from "../wan_shapes.ts";

/** A transformer to be timed. Each of its functions records the work once and frees the tensors that it made. */
export interface TimedTransformer {
  /** Blocks whose weights are on the GPU. */
  readonly loaded: number;
  /** A forward pass of the blocks that are loaded. */
  forward(attend: SelfAttention | undefined): Promise<void>;
  /** So many layers, on the weights that there are. */
  layers(count: number, attend: SelfAttention | undefined): void;
  /** What lies before and behind the blocks. */
  outer(): void;
}

/** Its tensors are on the GPU until that is closed. */
export async function openTransformer(gpu: Gpu, shape: WanShape, blocks: number): Promise<TimedTransformer> {
  const { grid, textTokens } = shape;
  const config = { ...shape.config, layers: blocks };
  const transformer = await WanTransformer3DModel.load(gpu, randomSource(transformerTensors(config)), config);
  const [frames, rows, columns] = grid.map((tokens, axis) => tokens * config.patchSize[axis]!);
  const input: ForwardPass = {
    latents: normalTensor(gpu, [1, config.inChannels, frames!, rows!, columns!]),
    timesteps: [500],
    conditioning: { text: normalTensor(gpu, [1, textTokens, config.textDim]) },
  };
  let embedded = transformer.embed(input);
  return {
    loaded: blocks,
    forward: async (selfAttention) => {
      for (const velocity of await transformer.predict([{ ...input, selfAttention }])) gpu.release(velocity);
    },
    layers: (count, attend) =>
      gpu.scope(() => {
        let { x } = embedded;
        for (let layer = 0; layer < count; layer++) {
          const selfAttention = attend && ((q, k, v) => attend(q, k, v, layer)) satisfies SelfAttention | undefined;
          const next = transformer.runBlock(layer % blocks, x, { ...embedded, selfAttention });
          if (x !== embedded.x) gpu.release(x);
          x = next;
        }
      }),
    outer: () => {
      for (const tensor of [embedded.x, ...embedded.tensors]) gpu.release(tensor);
      embedded = transformer.embed(input);
      gpu.release(transformer.project(embedded.x, embedded));
    },
  };
}
