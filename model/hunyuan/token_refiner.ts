import type { Gpu } from "../../gpu/gpu.ts";
import { activation } from "../../gpu/ops/activation.ts";
import { attention } from "../../gpu/ops/attention.ts";
import { combine } from "../../gpu/ops/combine.ts";
import { layerNorm } from "../../gpu/ops/layer_norm.ts";
import { sumRows } from "../../gpu/ops/sum_rows.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { Linear } from "../layers/linear.ts";
import { loadNorm, type Norm } from "../layers/norm.ts";
import type { Weights } from "../weights/weights.ts";
import type { TransformerConfig } from "./config.ts";
import { Embedder } from "./embeddings.ts";
import { AdaptiveVectors, EPS } from "./streams.ts";

/** The width of the refiner's feed-forwards, as a factor. `config.json` has that of the transformer's blocks alone. */
const FFN_RATIO = 4;

interface RefinerBlock {
  readonly norm1: Norm;
  readonly toQ: Linear;
  readonly toK: Linear;
  readonly toV: Linear;
  readonly toOut: Linear;
  readonly norm2: Norm;
  readonly up: Linear;
  readonly down: Linear;
  /** Makes the gates of attention and of the feed-forward. */
  readonly gates: AdaptiveVectors;
}

/**
 * The token refiner: a small transformer over the text's tokens, conditioned on the timestep and on the text's mean. Its
 * weights belong to whoever loaded them.
 */
export class TokenRefiner {
  private constructor(
    private readonly heads: number,
    private readonly projIn: Linear,
    private readonly time: Embedder,
    private readonly text: Embedder,
    private readonly blocks: readonly RefinerBlock[],
  ) {}

  /** Loads `context_embedder`. */
  static async load(weights: Weights, { heads, dim, textDim, refinerLayers }: TransformerConfig) {
    const embedder = weights.scope("context_embedder.time_text_embed.");
    const projIn = await Linear.load(weights, "context_embedder.proj_in", dim, textDim);
    const time = await Embedder.load(embedder, "timestep_embedder", dim);
    const text = await Embedder.load(embedder, "text_embedder", dim, textDim);
    const blocks: RefinerBlock[] = [];
    for (let i = 0; i < refinerLayers; i++) {
      blocks.push(await loadBlock(weights.scope(`context_embedder.token_refiner.refiner_blocks.${i}.`), dim));
    }
    return new TokenRefiner(heads, projIn, time, text, blocks);
  }

  /**
   * Refines a text. Valid tokens attend to valid tokens alone.
   *
   * @param text [1, tokens, text dim]
   * @param length the number of valid tokens, from the first on
   * @returns [1, tokens, dim]; what it has for the other tokens has no meaning
   */
  refine(gpu: Gpu, text: Tensor, length: number, timesteps: readonly number[]): Tensor {
    const [, tokens, textDim] = text.shape as [number, number, number];
    return gpu.scope(() => {
      const valid = text.reshape([tokens, textDim]).rows(0, length).reshape([1, length, textDim]);
      const mean = combine(gpu, [[1 / length, sumRows(gpu, valid)]]);
      const embedding = combine(gpu, [[1, this.time.ofNumbers(gpu, timesteps)], [1, this.text.apply(gpu, mean)]]);
      const conditioning = activation(gpu, embedding, "silu");
      const keyLengths = gpu.upload(Uint32Array.of(length), [1], "u32");
      let x = this.projIn.apply(gpu, text);
      for (const block of this.blocks) x = this.#run(gpu, block, x, conditioning, keyLengths);
      return x;
    });
  }

  #run(gpu: Gpu, w: RefinerBlock, x: Tensor, conditioning: Tensor, keyLengths: Tensor): Tensor {
    return gpu.scope(() => {
      const gate = w.gates.of(gpu, conditioning);
      const norm1 = layerNorm(gpu, x, EPS, w.norm1);
      const [q, k, v] = [w.toQ, w.toK, w.toV].map((to) => to.apply(gpu, norm1)) as [Tensor, Tensor, Tensor];
      const y = attention(gpu, q, k, v, { heads: this.heads, keyLengths });
      const attended = w.toOut.apply(gpu, y, { gate: gate(0), residual: x });
      const wide = w.up.apply(gpu, layerNorm(gpu, attended, EPS, w.norm2), { activation: "silu" });
      return w.down.apply(gpu, wide, { gate: gate(1), residual: attended });
    });
  }
}

async function loadBlock(weights: Weights, dim: number): Promise<RefinerBlock> {
  const square = (name: string) => Linear.load(weights, name, dim, dim);
  return {
    norm1: await loadNorm(weights, "norm1", dim),
    toQ: await square("attn.to_q"),
    toK: await square("attn.to_k"),
    toV: await square("attn.to_v"),
    toOut: await square("attn.to_out.0"),
    norm2: await loadNorm(weights, "norm2", dim),
    up: await Linear.load(weights, "ff.net.0.proj", FFN_RATIO * dim, dim),
    down: await Linear.load(weights, "ff.net.2", dim, FFN_RATIO * dim),
    gates: await AdaptiveVectors.load(weights, "norm_out.linear", 2, dim),
  };
}
