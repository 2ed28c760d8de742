import type { Gpu } from "../../gpu/gpu.ts";
import { rmsNorm } from "../../gpu/ops/rms_norm.ts";
import { zeroPastLength } from "../../gpu/ops/zero_past_length.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { runTextBlocks } from "../blocks/text_blocks.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import { openPart } from "../checkpoint/open_part.ts";
import { folderAt } from "../files/disk.ts";
import type { FileStore } from "../files/store.ts";
import { checkTextDim, type TextEncodeOptions, type TextEncoder, type TokenizedPrompt } from "../text_encoder.ts";
import type { WeightOptions } from "../weights/weight_options.ts";
import { loadUmt5Block, runUmt5Block, UMT5_WEIGHTS, type Umt5Sequence } from "./block.ts";
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
  return new Umt5Encoder(gpu, config, await openPart(folder, UMT5_WEIGHTS), options);
}

/** transformers' `UMT5EncoderModel` on the GPU. It runs block by block, so only one block of UMT5-XXL must fit. */
export class Umt5Encoder implements TextEncoder {
  /** Takes `source` over: disposing of this closes it. */
  constructor(
    private readonly gpu: Gpu,
    readonly config: Umt5Config,
    private readonly source: TensorSource,
    private readonly options?: WeightOptions,
  ) {}

  /** Text past each prompt's end is zero, as Wan's pipeline leaves it. */
  async encode(prompts: readonly TokenizedPrompt[], options?: TextEncodeOptions): Promise<{ readonly text: Tensor }> {
    const { gpu } = this, hidden = await this.lastHiddenState(prompts, options);
    try {
      return { text: gpu.scope(() => zeroPastLength(gpu, hidden, this.#lengths(prompts))) };
    } finally {
      gpu.release(hidden);
    }
  }

  /** The text as {@link encode} gives it, before the outputs of padded tokens are set to zero. */
  async lastHiddenState(prompts: readonly TokenizedPrompt[], options?: TextEncodeOptions): Promise<Tensor> {
    const { gpu, config, source } = this;
    const { layers, vocabSize, dModel, eps } = config, tokens = prompts[0]?.ids.length ?? 0;
    const name = EMBEDDING_NAMES.find((name) => source.has(name)) ?? EMBEDDING_NAMES[0];
    using owned = new TensorOwner(gpu);
    const sequence: Umt5Sequence = {
      lengths: this.#lengths(prompts),
      buckets: gpu.upload(
        relativeBuckets(tokens, config.relativeBuckets, config.relativeMaxDistance),
        [2 * tokens - 1],
        "u32",
      ),
    };
    owned.adopt([sequence.lengths, sequence.buckets]);
    return await runTextBlocks(
      gpu,
      {
        ...{ source, options: this.options, table: { name, shape: [vocabSize, dModel] } },
        prefixes: Array.from({ length: layers }, (_, layer) => `encoder.block.${layer}.`),
        load: (weights) => loadUmt5Block(weights, config),
        run: (block, x) => runUmt5Block(gpu, block, config, x, sequence),
        end: async (weights, x) =>
          rmsNorm(gpu, x, await weights.vector("encoder.final_layer_norm.weight", [dModel]), eps),
      },
      prompts,
      options,
    );
  }

  [Symbol.dispose](): void {
    this.source.close();
  }

  #lengths(prompts: readonly TokenizedPrompt[]): Tensor {
    return this.gpu.upload(Uint32Array.from(prompts, ({ length }) => length), [prompts.length], "u32");
  }
}
