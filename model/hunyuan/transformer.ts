import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { activation } from "../../gpu/ops/activation.ts";
import { combine, type Term } from "../../gpu/ops/combine.ts";
import { layerNorm } from "../../gpu/ops/layer_norm.ts";
import { patchify, unpatchify } from "../../gpu/ops/patches.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { gridOf, product } from "../attention/grid.ts";
import type { HeadShape, TokenLayout } from "../attention/layout.ts";
import { BlockTransformer, type LoadedWeights, loadWeights } from "../blocks/block_transformer.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import type { Conditioning, EmbeddedPass, ForwardPass, TransformerOptions } from "../family.ts";
import { Linear } from "../layers/linear.ts";
import { GridRope } from "../layers/rope.ts";
import type { Weights } from "../weights/weights.ts";
import type { TransformerConfig } from "./config.ts";
import { type DualBlock, loadDualBlock, runDualBlock } from "./dual_block.ts";
import { Embedder } from "./embeddings.ts";
import { loadSingleBlock, runSingleBlock, type SingleBlock } from "./single_block.ts";
import { AdaptiveVectors, type BlockInputs, EPS, tokensOf } from "./streams.ts";
import { TokenRefiner } from "./token_refiner.ts";

/** The model was trained with scales of guidance in thousandths. */
const GUIDANCE_UNIT = 1000;

/** The weights outside the blocks. */
interface OuterWeights {
  readonly patchEmbedding: Linear;
  readonly refiner: TokenRefiner;
  readonly time: Embedder;
  readonly guidance: Embedder | undefined;
  readonly pooled: Embedder;
  /** Of the output norm. */
  readonly scale: AdaptiveVectors;
  readonly shift: AdaptiveVectors;
  readonly projOut: Linear;
}

/** A pass of HunyuanVideo's transformer. */
export interface HunyuanPass extends EmbeddedPass, BlockInputs {
  /** The shape of the latents. */
  readonly latents: readonly number[];
}

/**
 * A loaded transformer, which predicts the velocity of a noisy latent video. The text's tokens stand behind the video's,
 * and attention runs over both. It takes a batch of one.
 */
export class HunyuanVideoTransformer3DModel
  extends BlockTransformer<OuterWeights, DualBlock | SingleBlock, HunyuanPass> {
  readonly #rope: GridRope;

  private constructor(
    gpu: Gpu,
    readonly config: TransformerConfig,
    loaded: LoadedWeights<OuterWeights, DualBlock | SingleBlock>,
  ) {
    super(gpu, loaded);
    this.#rope = new GridRope(gpu, config.ropeDims, config.ropeTheta);
  }

  /**
   * Uploads the weights as {@link loadWeights} does.
   *
   * @param source owned by the caller
   */
  static async load(
    gpu: Gpu,
    source: TensorSource,
    config: TransformerConfig,
    options?: TransformerOptions,
  ): Promise<HunyuanVideoTransformer3DModel> {
    const stored = {
      prefixes: config.layerPrefixes,
      load: (weights: Weights, layer: number): Promise<DualBlock | SingleBlock> =>
        layer < config.dualLayers ? loadDualBlock(weights, config) : loadSingleBlock(weights, config),
    };
    const loaded = await loadWeights(gpu, source, stored, (weights) => loadOuter(weights, config), options);
    return new HunyuanVideoTransformer3DModel(gpu, config, loaded);
  }

  get shape(): HeadShape {
    return this.config;
  }

  layout(latents: readonly number[], { text, textLength = text.dim(1) }: Conditioning): TokenLayout {
    return { grid: gridOf(latents, this.config.patchSize), kept: text.dim(1), length: textLength };
  }

  embed({ latents, timesteps, conditioning, selfAttention, cache }: ForwardPass): HunyuanPass {
    const { gpu, config, outer } = this, { grid, kept, length = kept } = this.layout(latents.shape, conditioning);
    if (latents.dim(0) !== 1 || timesteps.length !== 1) throw new Error("HunyuanVideo takes a batch of one");
    if (!selfAttention && length < kept) throw new Error("padding must be masked: give self-attention that does so");
    const rope = { table: this.#rope.of(grid) }, video = product(grid);
    const [x, vector] = gpu.scope(() => {
      const x = gpu.tensor([1, video + kept, config.dim]);
      // A buffer as large as all tokens is left free: a norm of the video alone takes it, and then it serves for all.
      gpu.release(gpu.tensor(x.shape));
      gpu.scope(() => {
        const patches = patchify(gpu, latents, config.patchSize);
        outer.patchEmbedding.apply(gpu, patches, { into: tokensOf(x, 0, video) });
      });
      gpu.copy(outer.refiner.refine(gpu, conditioning.text, length, timesteps), tokensOf(x, video, kept));
      return [x, activation(gpu, this.#embedding(timesteps, conditioning), "silu")] as const;
    });
    return {
      ...{ x, conditioning: vector, tensors: [vector], rope, video },
      ...{ selfAttention, cache, latents: latents.shape },
    };
  }

  protected override forwardBlock(
    block: DualBlock | SingleBlock,
    x: Tensor,
    pass: HunyuanPass,
    layer: number,
    release?: () => void,
  ): Tensor {
    const { gpu, config } = this;
    return "text" in block
      ? runDualBlock(gpu, block, config, x, pass, layer, release)
      : runSingleBlock(gpu, block, config, x, pass, layer, release);
  }

  /** [1, video tokens, dim]: the video's tokens as the attention of the first dual-stream block gets them. */
  protected override modulatedInput({ x, conditioning, video }: HunyuanPass, first: DualBlock | SingleBlock) {
    const { gpu } = this;
    return gpu.scope(() => {
      const vector = ("text" in first ? first.video : first).adaptive.of(gpu, conditioning);
      return layerNorm(gpu, tokensOf(x, 0, video), EPS, { shift: vector(0), scale: vector(1) });
    });
  }

  project(x: Tensor, { conditioning, video, latents: [batch, , ...size] }: HunyuanPass): Tensor {
    const { gpu, config, outer } = this;
    return gpu.scope(() => {
      const [scale, shift] = [outer.scale, outer.shift].map((adaptive) => adaptive.of(gpu, conditioning)(0));
      const norm = layerNorm(gpu, tokensOf(x, 0, video), EPS, { scale: scale!, shift: shift! });
      const rows = outer.projOut.apply(gpu, norm);
      return unpatchify(gpu, rows, [batch!, config.outChannels, ...size], config.patchSize, "first");
    });
  }

  protected override embedTime(timesteps: readonly number[]): Tensor {
    return this.outer.time.ofNumbers(this.gpu, timesteps);
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#rope[Symbol.dispose]();
  }

  /** The embedding of timestep, scale of guidance and pooled text, [1, dim]. */
  #embedding(timesteps: readonly number[], { pooled, guidance }: Conditioning): Tensor {
    const { gpu, outer } = this;
    if (!pooled) {
      throw new TilereelError(
        "HunyuanVideo needs the prompt as one vector beside its text tokens; give pooled embeddings, too",
      );
    }
    const terms: Term[] = [[1, this.embedTime(timesteps)], [1, outer.pooled.apply(gpu, pooled)]];
    if (outer.guidance) {
      if (guidance === undefined) throw new Error("HunyuanVideo must be told the scale of guidance");
      terms.push([1, outer.guidance.ofNumbers(gpu, [GUIDANCE_UNIT * guidance])]);
    }
    return combine(gpu, terms);
  }
}

async function loadOuter(weights: Weights, config: TransformerConfig): Promise<OuterWeights> {
  const { dim, patchSize, inChannels, outChannels, pooledDim, guidanceEmbeds } = config;
  const patch = product(patchSize), embedder = weights.scope("time_text_embed.");
  return {
    patchEmbedding: await Linear.load(weights, "x_embedder.proj", dim, inChannels * patch, {
      stored: [dim, inChannels, ...patchSize],
    }),
    refiner: await TokenRefiner.load(weights, config),
    time: await Embedder.load(embedder, "timestep_embedder", dim),
    guidance: guidanceEmbeds ? await Embedder.load(embedder, "guidance_embedder", dim) : undefined,
    pooled: await Embedder.load(embedder, "text_embedder", dim, pooledDim),
    scale: await AdaptiveVectors.load(weights, "norm_out.scale", 1, dim),
    shift: await AdaptiveVectors.load(weights, "norm_out.shift", 1, dim),
    projOut: await Linear.load(weights, "proj_out", outChannels * patch, dim),
  };
}
