import type { Gpu } from "../../gpu/gpu.ts";
import type { SelfAttention } from "../../model/attention/method.ts";
import type { ForwardPass } from "../../model/family.ts";
import { randomSource } from "../full_size/made_source.ts";
import { normalTensor } from "../random.ts";
import type { ModelShape } from "../shapes.ts";

/** A transformer with random weights. Each function records the work once and frees the tensors that it made. */
export interface TimedTransformer {
  /** The number of blocks whose weights are on the GPU. */
  readonly loaded: number;
  /** A forward pass of the blocks that are loaded. */
  forward(attend: SelfAttention | undefined): Promise<void>;
  /** The number of layers. If fewer blocks are loaded, their weights serve several layers. */
  layers(count: number, attend: SelfAttention | undefined): void;
  /** The work before and after the blocks. */
  outer(): void;
}

/** Loads the given number of blocks. The tensors are on the GPU until that is closed. */
export async function openTransformer(
  gpu: Gpu,
  { size, textTokens, ...shape }: ModelShape,
  blocks: number,
): Promise<TimedTransformer> {
  const model = shape.model(randomSource, { layers: blocks }), transformer = await model.loadTransformer(gpu);
  const input: ForwardPass = {
    latents: normalTensor(gpu, model.latentShape(size)),
    timesteps: [500],
    conditioning: { text: normalTensor(gpu, [1, textTokens, model.textDim]) },
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
          const selfAttention: SelfAttention | undefined = attend && ((q, k, v) => attend(q, k, v, layer));
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
