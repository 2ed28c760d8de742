/**
 * The UMT5 encoder on the GPU, block by block: UMT5-XXL's weights need not fit, one block's do.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { rmsNorm } from "../../gpu/ops/rms_norm.ts";
import { zeroPastLength } from "../../gpu/ops/zero_past_length.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { expectTensor, type TensorSource, toFloat32 } from "../checkpoint/safetensors.ts";
import { openCheckpoint } from "../checkpoint/sharded.ts";
import { folderAt } from "../files/disk.ts";
import type { FileStore } from "../files/store.ts";
import {
  checkTextDim,
  ENCODE_STAGE,
  joinIds,
  type TextEncodeOptions,
  type TextEncoder,
  type TokenizedPrompt,
} from "../text_encoder.ts";
import type { WeightOptions } from "../weights/weight_options.ts";
import { Weights } from "../weights/weights.ts";
import { loadUmt5Block, runUmt5Block, type Umt5Sequence } from "./block.ts";
import { readUmt5Config, type Umt5Config } from "./config.ts";
import { relativeBuckets } from "./relative_buckets.ts";

/** Names of the embedding table: it is stored once, under either. */
const EMBEDDING_NAMES = ["shared.weight", "encoder.embed_tokens.weight"] as const;

/**
 * Opens a text encoder in transformers' layout. No weights are read before they are needed.
 *
 * @param place a folder that holds `config.json` and the safetensors
 * @param textDim channels of a text embedding that the transformer takes
 * @param options how its weights are loaded
 * @throws {TilereelError} if the folder holds no UMT5 encoder, a damaged one, or one for another transformer
 */
export async function openUmt5Encoder(
  gpu: Gpu,
  place: string | FileStore,
  textDim: number,
  options?: WeightOptions,
): Promise<Umt5Encoder> {
  const folder = folderAt(place), config = await readUmt5Config(folder.file("config.json"));
  checkTextDim(folder.path, config.dModel, textDim);
  return new Umt5Encoder(gpu, config, await openCheckpoint(folder, "model"), options);
}

/** transformers' `UMT5EncoderModel`. */
export class Umt5Encoder implements TextEncoder {
  /** Takes `source` over: disposing of this closes it. */
  constructor(
    private readonly gpu: Gpu,
    readonly config: Umt5Config,
    private readonly source: TensorSource,
    private readonly options?: WeightOptions,
  ) {}

  async encode(prompts: readonly TokenizedPrompt[], options?: TextEncodeOptions): Promise<Tensor> {
    const hidden = await this.lastHiddenState(prompts, options);
    try {
      return this.gpu.scope(() => zeroPastLength(this.gpu, hidden, this.#lengths(prompts)));
    } finally {
      this.gpu.release(hidden);
    }
  }

  /** As {@link encode}, with what the encoder makes of the padding left in. */
  async lastHiddenState(prompts: readonly TokenizedPrompt[], options: TextEncodeOptions = {}): Promise<Tensor> {
    const { onProgress, signal } = options;
    const { gpu, config } = this;
    const { ids, tokens } = joinIds(prompts);
    const weights = new Weights(gpu, this.source, this.options);
    const sequence: Umt5Sequence = {
      lengths: this.#lengths(prompts),
      buckets: gpu.upload(
        relativeBuckets(tokens, config.relativeBuckets, config.relativeMaxDistance),
        [2 * tokens - 1],
        "u32",
      ),
    };
    let x: Tensor | undefined;
    try {
      onProgress?.({ stage: ENCODE_STAGE, done: 0, total: config.layers });
      x = gpu.upload(await this.#embed(ids), [prompts.length, tokens, config.dModel]);
      for (let layer = 0; layer < config.layers; layer++) {
        signal?.throwIfAborted();
        const block = weights.scope(`encoder.block.${layer}.`);
        const loaded = await loadUmt5Block(block, config);
        // The block before computed while this one was read. Waiting for it here keeps uploads from piling up.
        await gpu.finish();
        const y = runUmt5Block(gpu, loaded, config, x, sequence);
        gpu.submit();
        gpu.release(x);
        x = y;
        block[Symbol.dispose]();
        onProgress?.({ stage: ENCODE_STAGE, done: layer + 1, total: config.layers });
      }
      const norm = await weights.vector("encoder.final_layer_norm.weight", [config.dModel]);
      signal?.throwIfAborted();
      return rmsNorm(gpu, x, norm, config.eps);
    } finally {
      weights[Symbol.dispose]();
      for (const tensor of [x, sequence.lengths, sequence.buckets]) if (tensor) gpu.release(tensor);
    }
  }

  [Symbol.dispose](): void {
    this.source.close();
  }

  /** Rows of the embedding table, f32. The table is the largest tensor of all; only these rows are read. */
  async #embed(ids: Int32Array): Promise<Float32Array> {
    const { vocabSize, dModel } = this.config;
    const unknown = ids.find((id) => id < 0 || id >= vocabSize);
    if (unknown !== undefined) {
      throw new TilereelError(
        `the tokenizer gave token ${unknown}, but the text encoder ${this.source.path} knows ${vocabSize} tokens; ` +
          `tokenizer and text encoder must belong to the same model`,
      );
    }
    const name = EMBEDDING_NAMES.find((name) => this.source.has(name)) ?? EMBEDDING_NAMES[0];
    const { dtype } = expectTensor(this.source, name, [vocabSize, dModel]);
    return toFloat32(await this.source.readRows(name, ids), dtype);
  }

  #lengths(prompts: readonly TokenizedPrompt[]): Tensor {
    return this.gpu.upload(Uint32Array.from(prompts, ({ length }) => length), [prompts.length], "u32");
  }
}
