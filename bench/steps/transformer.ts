import type { Gpu } from "../../gpu/gpu.ts";
import type { SelfAttention } from "../../model/attention/method.ts";
import type { CacheHooks } from "../../model/cache/step_cache.ts";
import { greatestCommonDivisor } from "../../gpu/common/divisors.ts";
import type { ForwardPass } from "../../model/family.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { conditionedBy } from "../../model/guidance.ts";
import { randomSource } from "../full_size/made_source.ts";
import { normalTensor } from "../random.ts";
import type { ModelShape } from "../shapes.ts";

/** A transformer with random weights. Each function records the work once and frees the tensors that it made. */
export interface TimedTransformer extends Disposable {
  /** The number of blocks whose weights are on the GPU. */
  readonly loaded: number;
  /** The number of layers in which kinds of blocks occur in the proportion of the model's. */
  readonly period: number;
  /** A forward pass of the blocks that are loaded. */
  forward(attend: SelfAttention | undefined): Promise<void>;
  /** The given number of layers, of each kind in proportion. If fewer blocks are loaded, their weights serve several. */
  layers(count: number, attend: SelfAttention | undefined): void;
  /** One block of a kind: the first of those that are loaded. */
  block(kind: number, attend: SelfAttention | undefined, cache?: CacheHooks): void;
  /** The work before and after the blocks. */
  outer(): void;
}

/** Attention that takes no time, to time the rest of a block: it only returns its queries. */
export const noAttention: SelfAttention = Object.assign((q: Tensor) => q, { consuming: (q: Tensor) => q });

/** Loads the given number of blocks of each kind. The tensors are on the GPU until it is disposed of. */
export async function openTransformer(
  gpu: Gpu,
  { size, textTokens, textLength, ...shape }: ModelShape,
  blocks: readonly number[],
): Promise<TimedTransformer> {
  const model = shape.model(randomSource, { blocks });
  const { quantised } = model.family.parts.transformer?.weights ?? {};
  const transformer = await model.loadTransformer(gpu, { quantised });
  const input: ForwardPass = {
    latents: normalTensor(gpu, model.latentShape(size)),
    timesteps: [500],
    // A pass over padded text must be given attention. Blocks get their own.
    selfAttention: noAttention,
    conditioning: conditionedBy(model.passes(model.defaults.guidance)[0]!, {
      text: normalTensor(gpu, [1, textTokens, model.textDim]),
      ...textLength !== undefined && { textLength },
      ...model.pooledDim && { pooled: normalTensor(gpu, [1, model.pooledDim]) },
    }),
  };
  let embedded = transformer.embed(input);
  const order = blockOrder(shape.blocks, blocks);
  return {
    loaded: blocks.reduce((a, b) => a + b),
    period: order.period,
    forward: async (selfAttention) => {
      for (const velocity of await transformer.predict([{ ...input, selfAttention }])) gpu.release(velocity);
    },
    layers: (count, attend) =>
      gpu.scope(() => {
        let { x } = embedded;
        for (let layer = 0; layer < count; layer++) {
          const ofLayer: SelfAttention = (q, k, v, _, gate) => attend!(q, k, v, layer, gate);
          const consuming: SelfAttention["consuming"] = attend?.consuming &&
            ((q, k, v, _, next) => attend.consuming!(q, k, v, layer, next));
          const selfAttention = attend && Object.assign(ofLayer, { takesGate: attend.takesGate ?? false, consuming });
          const next = transformer.runBlock(order.at(layer), x, { ...embedded, selfAttention });
          if (x !== embedded.x) gpu.release(x);
          x = next;
        }
      }),
    block: (kind, selfAttention, cache) =>
      gpu.scope(() => {
        const first = blocks.slice(0, kind).reduce((a, b) => a + b, 0);
        transformer.runBlock(first, embedded.x, { ...embedded, selfAttention, cache });
      }),
    outer: () => {
      for (const tensor of [embedded.x, ...embedded.tensors]) gpu.release(tensor);
      embedded = transformer.embed(input);
      gpu.release(transformer.project(embedded.x, embedded));
    },
    [Symbol.dispose]: () => {
      const { text, pooled } = input.conditioning;
      for (const tensor of [input.latents, text, ...pooled ? [pooled] : [], embedded.x, ...embedded.tensors]) {
        gpu.release(tensor);
      }
      transformer[Symbol.dispose]();
      model[Symbol.dispose]();
    },
  };
}

/**
 * The blocks that layers are timed with: a few layers of each kind after the other, in proportion to the model's.
 *
 * @param all the number of the model's blocks of each kind
 * @param loaded the number of those that are on the GPU, which are numbered one kind after the other
 */
export function blockOrder(all: readonly number[], loaded: readonly number[]): {
  /** The number of layers after which the kinds occur again. */
  readonly period: number;
  /** The block of a layer. */
  at(layer: number): number;
} {
  const common = all.reduce((a, b) => greatestCommonDivisor(a, b));
  const kinds = all.flatMap((count, kind) => Array<number>(count / common).fill(kind));
  return {
    period: kinds.length,
    at: (layer) => {
      const turn = layer % kinds.length, kind = kinds[turn]!;
      const before = kinds.slice(0, turn).filter((other) => other === kind).length;
      const ofKind = Math.floor(layer / kinds.length) * (all[kind]! / common) + before;
      return loaded.slice(0, kind).reduce((a, b) => a + b, 0) + ofKind % loaded[kind]!;
    },
  };
}
