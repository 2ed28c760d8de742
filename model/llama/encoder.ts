import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { causalMask } from "../../gpu/ops/encoder_attention.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { runTextBlocks } from "../blocks/text_blocks.ts";
import { openPart } from "../checkpoint/open_part.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import { folderAt } from "../files/disk.ts";
import type { FileStore } from "../files/store.ts";
import { ropeTable } from "../layers/rope.ts";
import {
  checkTextDim,
  type EncodedPrompts,
  type TextEncodeOptions,
  type TextEncoder,
  type TokenizedPrompt,
} from "../text_encoder.ts";
import type { WeightOptions } from "../weights/weight_options.ts";
import { LLAMA_WEIGHTS, type LlamaSequence, loadLlamaBlock, runLlamaBlock } from "./block.ts";
import { type LlamaConfig, readLlamaConfig } from "./config.ts";

/** What of a LLaMA's output is the text. */
export interface LlamaText {
  /** The number of its last layers that are left out, with the final norm: they are never loaded. */
  readonly skippedLayers: number;
  /** The number of tokens of the template in front of the prompt, whose embeddings are cut off. */
  readonly cropStart: number;
}

/**
 * Opens a LLaMA in transformers' layout. No weights are read before they are needed.
 *
 * @param place a folder that holds `config.json` and the safetensors
 * @param textDim channels of a text embedding that the transformer takes
 * @param options how its weights are loaded
 * @throws {TilereelError} if the folder holds no LLaMA, a damaged one, or one for another transformer
 */
export async function openLlamaEncoder(
  gpu: Gpu,
  place: string | FileStore,
  textDim: number,
  text: LlamaText,
  options?: WeightOptions,
): Promise<LlamaEncoder> {
  const folder = folderAt(place), config = await readLlamaConfig(folder.file("config.json"));
  checkTextDim(folder.path, config.dim, textDim);
  return new LlamaEncoder(gpu, config, await openPart(folder, LLAMA_WEIGHTS), text, options);
}

/** transformers' `LlamaModel` as a text encoder. It runs block by block, so only one block must fit. */
export class LlamaEncoder implements TextEncoder {
  /** Takes `source` over: disposing of this closes it. */
  constructor(
    private readonly gpu: Gpu,
    readonly config: LlamaConfig,
    private readonly source: TensorSource,
    private readonly text: LlamaText,
    private readonly options?: WeightOptions,
  ) {}

  /** Padding is left in, as diffusers leaves it. */
  async encode(prompts: readonly TokenizedPrompt[], options?: TextEncodeOptions): Promise<EncodedPrompts> {
    const { gpu, source: { path }, text: { cropStart } } = this;
    if (prompts.some(({ length }) => length <= cropStart)) {
      throw new TilereelError(
        `the tokenizer makes fewer than ${cropStart + 1} tokens of a prompt in the template of the text encoder ` +
          `${path}; use the tokenizer of the same model`,
      );
    }
    using owned = new TensorOwner(gpu);
    const hidden = owned.adopt(await this.hiddenState(prompts, options));
    const [count, tokens, dim] = hidden.shape as [number, number, number], kept = tokens - cropStart;
    const text = gpu.tensor([count, kept, dim]), rows = hidden.reshape([count * tokens, dim]);
    for (let i = 0; i < count; i++) gpu.copy(rows.slice(i * tokens + cropStart, kept), text.slice(i, 1));
    return { text, lengths: prompts.map(({ length }) => length - cropStart) };
  }

  /** The output of the last layer that is not left out, [prompts, tokens, dim], template and padding included. */
  async hiddenState(prompts: readonly TokenizedPrompt[], options?: TextEncodeOptions): Promise<Tensor> {
    const { gpu, config, source } = this, { layers, vocabSize, dim, heads, headDim, theta } = config;
    const tokens = prompts[0]?.ids.length ?? 0;
    using owned = new TensorOwner(gpu);
    const sequence: LlamaSequence = {
      mask: causalMask(gpu, heads, tokens),
      lengths: gpu.upload(Uint32Array.from(prompts, ({ length }) => length), [prompts.length], "u32"),
      rope: gpu.upload(ropeTable([1, 1, tokens], [0, 0, headDim], theta), [tokens, headDim / 2, 2]),
    };
    owned.adopt(Object.values(sequence));
    return await runTextBlocks(
      gpu,
      {
        ...{ source, options: this.options, table: { name: "embed_tokens.weight", shape: [vocabSize, dim] } },
        prefixes: Array.from({ length: layers - this.text.skippedLayers }, (_, layer) => `layers.${layer}.`),
        load: (weights) => loadLlamaBlock(weights, config),
        run: (block, x) => runLlamaBlock(gpu, block, config, x, sequence),
        end: (_, x) => Promise.resolve(x),
      },
      prompts,
      options,
    );
  }

  [Symbol.dispose](): void {
    this.source.close();
  }
}
