import { TilereelError } from "../../../gpu/common/errors.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { causalMask } from "../../../gpu/ops/encoder_attention.ts";
import { combine } from "../../../gpu/ops/combine.ts";
import { layerNorm } from "../../../gpu/ops/layer_norm.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import { TensorOwner } from "../../../gpu/tensor_owner.ts";
import { runTextBlocks } from "../../blocks/text_blocks.ts";
import { openPart } from "../../checkpoint/open_part.ts";
import type { TensorSource } from "../../checkpoint/tensor_source.ts";
import { folderAt } from "../../files/disk.ts";
import type { FileStore } from "../../files/store.ts";
import { loadNorm } from "../../layers/norm.ts";
import { checkTextDim, type TextEncodeOptions, type TextEncoder, type TokenizedPrompt } from "../../text_encoder.ts";
import type { WeightOptions } from "../../weights/weight_options.ts";
import { clipPrefixes, loadClipBlock, runClipBlock } from "../block.ts";
import { type ClipTextConfig, readClipTextConfig } from "./config.ts";
import { CLIP_TEXT_WEIGHTS, FINAL_NORM, POSITIONS } from "./weights.ts";

/**
 * Opens CLIP's text encoder in transformers' layout. No weights are read before they are needed.
 *
 * @param place a folder that holds `config.json` and the safetensors
 * @param pooledDim channels of a prompt as one vector that the transformer takes
 * @param options how its weights are loaded
 * @throws {TilereelError} if the folder holds no such encoder, a damaged one, or one for another transformer
 */
export async function openClipTextEncoder(
  gpu: Gpu,
  place: string | FileStore,
  pooledDim: number,
  options?: WeightOptions,
): Promise<ClipTextEncoder> {
  const folder = folderAt(place), config = await readClipTextConfig(folder.file("config.json"));
  checkTextDim(folder.path, config.dim, pooledDim);
  return new ClipTextEncoder(gpu, config, await openPart(folder, CLIP_TEXT_WEIGHTS), options);
}

/** transformers' `CLIPTextModel`: makes of each prompt one vector, `pooler_output`. */
export class ClipTextEncoder implements TextEncoder {
  /** Takes `source` over: disposing of this closes it. */
  constructor(
    private readonly gpu: Gpu,
    readonly config: ClipTextConfig,
    private readonly source: TensorSource,
    private readonly options?: WeightOptions,
  ) {}

  async encode(prompts: readonly TokenizedPrompt[], options?: TextEncodeOptions): Promise<{ readonly pooled: Tensor }> {
    const { gpu, config: { dim } } = this;
    using owned = new TensorOwner(gpu);
    const hidden = owned.adopt(await this.lastHiddenState(prompts, options)), tokens = hidden.dim(1);
    const pooled = gpu.tensor([prompts.length, dim]), rows = hidden.reshape([prompts.length * tokens, dim]);
    for (const [i, { ids }] of prompts.entries()) {
      gpu.copy(rows.slice(i * tokens + this.#endOf(ids), 1), pooled.slice(i, 1));
    }
    return { pooled };
  }

  /** [prompts, tokens, dim], after the final norm */
  async lastHiddenState(prompts: readonly TokenizedPrompt[], options?: TextEncodeOptions): Promise<Tensor> {
    const { gpu, config, source } = this, { vocabSize, dim, layers, heads, eps } = config;
    const tokens = prompts[0]?.ids.length ?? 0;
    if (tokens > config.tokens) {
      throw new TilereelError(
        `${source.path} takes at most ${config.tokens} tokens of a prompt, but it was given ${tokens}; ` +
          `use the text encoder that the transformer was trained with`,
      );
    }
    using owned = new TensorOwner(gpu);
    const mask = owned.adopt(causalMask(gpu, heads, tokens));
    return await runTextBlocks(
      gpu,
      {
        ...{ source, options: this.options },
        table: { name: "embeddings.token_embedding.weight", shape: [vocabSize, dim] },
        prefixes: clipPrefixes(layers),
        start: async (weights, x) => {
          const positions = await weights.vector(POSITIONS, [config.tokens, dim]);
          return gpu.scope(() => {
            const repeated = gpu.tensor(x.shape);
            for (let i = 0; i < prompts.length; i++) gpu.copy(positions.slice(0, tokens), repeated.slice(i, 1));
            return combine(gpu, [[1, x], [1, repeated]]);
          });
        },
        load: (weights) => loadClipBlock(weights, config),
        run: (block, x) => runClipBlock(gpu, block, config, x, mask),
        end: async (weights, x) => layerNorm(gpu, x, eps, await loadNorm(weights, FINAL_NORM, dim)),
      },
      prompts,
      options,
    );
  }

  [Symbol.dispose](): void {
    this.source.close();
  }

  /** The first token that ends a prompt; the first of all where there is none, as in transformers. */
  #endOf(ids: Int32Array): number {
    return Math.max(0, ids.indexOf(this.config.endToken ?? ids.reduce((a, b) => Math.max(a, b))));
  }
}
