import type { Gpu } from "../../gpu/gpu.ts";
import { encoderAttention } from "../../gpu/ops/encoder_attention.ts";
import { rowGates } from "../../gpu/ops/modulation.ts";
import { rmsNorm } from "../../gpu/ops/rms_norm.ts";
import { rotateHalves } from "../../gpu/ops/rotate_halves.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { layoutNames, sameNames } from "../checkpoint/layout_names.ts";
import type { PartWeights } from "../family.ts";
import { Linear } from "../layers/linear.ts";
import type { Weights } from "../weights/weights.ts";
import type { LlamaConfig } from "./config.ts";
import { configFromShapes, HEAD_DIM, MARKS } from "./shapes.ts";

/** The weights of one block on the GPU. */
export interface LlamaBlock {
  readonly attentionNorm: Tensor;
  readonly q: Linear;
  readonly k: Linear;
  readonly v: Linear;
  readonly o: Linear;
  readonly feedForwardNorm: Tensor;
  /** The half of the feed-forward that goes through SiLU. */
  readonly gate: Linear;
  /** The half it is multiplied by. */
  readonly up: Linear;
  readonly down: Linear;
}

const BLOCK = /^layers\.\d+\./;

/** The layers of a block that LoRAs change. */
const LAYERS = sameNames(
  ...["q", "k", "v", "o"].map((name) => `self_attn.${name}_proj`),
  ...["gate", "up", "down"].map((name) => `mlp.${name}_proj`),
);

/** llama.cpp's names. */
const GGUF_LAYERS = {
  attn_norm: "input_layernorm",
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  ffn_norm: "post_attention_layernorm",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
};

/**
 * How the files of its weights are read. `LlamaForCausalLM` and LLaVA have prefixes before the names. Of the embedding
 * table only rows are uploaded.
 */
export const LLAMA_WEIGHTS: PartWeights = {
  stem: "model",
  names: layoutNames(
    [{ blocks: ["layers", "layers"], layers: LAYERS }, { blocks: ["blk", "layers"], layers: GGUF_LAYERS }, {
      layers: { token_embd: "embed_tokens", output_norm: "norm", output: "lm_head" },
    }],
    /^(language_model[._])?model[._]/,
  ),
  pairedRows: (name, metadata) => {
    const isRotated = /\.self_attn\.[qk]_proj\.weight$/.test(name) && metadata["general.architecture"] === "llama";
    return isRotated ? Number(metadata[HEAD_DIM] ?? 128) : undefined;
  },
  marks: MARKS,
  configFromShapes,
  block: BLOCK,
  used: (name) => BLOCK.test(name),
};

/**
 * Uploads a block.
 *
 * @param weights scoped to the block
 * @throws {TilereelError} if a tensor is missing, has another shape, or does not fit the GPU
 */
export async function loadLlamaBlock(weights: Weights, config: LlamaConfig): Promise<LlamaBlock> {
  const { dim, ffnDim, heads, keyHeads, headDim } = config;
  const load = (name: string, outputs: number, inputs: number) =>
    Linear.load(weights, name, outputs, inputs, { bias: false });
  return {
    attentionNorm: await weights.vector("input_layernorm.weight", [dim]),
    q: await load("self_attn.q_proj", heads * headDim, dim),
    k: await load("self_attn.k_proj", keyHeads * headDim, dim),
    v: await load("self_attn.v_proj", keyHeads * headDim, dim),
    o: await load("self_attn.o_proj", dim, heads * headDim),
    feedForwardNorm: await weights.vector("post_attention_layernorm.weight", [dim]),
    gate: await load("mlp.gate_proj", ffnDim, dim),
    up: await load("mlp.up_proj", ffnDim, dim),
    down: await load("mlp.down_proj", dim, ffnDim),
  };
}

/** The values that all blocks share in one run. */
export interface LlamaSequence {
  /** See `causalMask`. */
  readonly mask: Tensor;
  /** [batch], u32: tokens of each prompt that are not padding */
  readonly lengths: Tensor;
  /** [tokens, head dim / 2, 2]: see `rotateHalves` */
  readonly rope: Tensor;
}

/**
 * Records one block.
 *
 * @param x [batch, tokens, dim], f32
 * @returns the same shape
 */
export function runLlamaBlock(gpu: Gpu, block: LlamaBlock, config: LlamaConfig, x: Tensor, of: LlamaSequence): Tensor {
  const { heads, keyHeads, eps } = config;
  return gpu.scope(() => {
    const attended = gpu.scope(() => {
      const normed = block.q.share(gpu, rmsNorm(gpu, x, block.attentionNorm, eps));
      const [q, k] = [block.q, block.k].map((of) => of.apply(gpu, normed)) as [Tensor, Tensor];
      const mixed = encoderAttention(
        gpu,
        rotateHalves(gpu, q, of.rope),
        rotateHalves(gpu, k, of.rope),
        block.v.apply(gpu, normed),
        { heads, keyHeads, mask: of.mask, keyLengths: of.lengths },
      );
      return block.o.apply(gpu, mixed, { residual: x });
    });
    const normed = block.gate.share(gpu, rmsNorm(gpu, attended, block.feedForwardNorm, eps));
    const gate = block.gate.apply(gpu, normed, { activation: "silu" });
    const hidden = block.up.applyInto(gpu, normed, block.down, { gate: rowGates(gate) });
    return block.down.apply(gpu, hidden, { residual: attended });
  });
}
