import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { expectTensor, readFloat32, type TensorSource } from "../checkpoint/safetensors.ts";
import { joinIds, type TextEncodeOptions, type TokenizedPrompt } from "../text_encoder.ts";
import { checkDeltas, type WeightOptions } from "../weights/weight_options.ts";
import { Weights } from "../weights/weights.ts";
import type { StoredBlocks } from "./block_source.ts";
import { runOneByOne } from "./one_by_one.ts";

/** A text encoder, as its files have it. */
export interface TextBlocks<Block> extends Omit<StoredBlocks<Block>, "weights"> {
  readonly source: TensorSource;
  readonly options: WeightOptions | undefined;
  /** The embedding table. */
  readonly table: { readonly name: string; readonly shape: readonly [vocabulary: number, channels: number] };
  /** Records what is done to the embeddings, [prompts, tokens, channels], before block 0, such as adding positions. */
  start?(weights: Weights, x: Tensor): Promise<Tensor>;
  /** Records one block, from [prompts, tokens, channels] to the same. A causal mask is a `bias` of `attention`. */
  run(block: Block, x: Tensor): Tensor;
  /** Records what comes after the last block. */
  end(weights: Weights, x: Tensor): Promise<Tensor>;
}

/**
 * Runs a text encoder. One block's weights are on the GPU at a time, so those of a large encoder need not fit.
 *
 * @returns [prompts, tokens, channels], f32; the caller's
 * @throws {TilereelError} if weights are missing or do not fit, memory runs out, or the table does not have a token
 * @throws the signal's reason, if it is aborted
 */
export async function runTextBlocks<Block>(
  gpu: Gpu,
  { source, options, table, prefixes, ...model }: TextBlocks<Block>,
  prompts: readonly TokenizedPrompt[],
  { onProgress, signal }: TextEncodeOptions = {},
): Promise<Tensor> {
  const { ids, tokens } = joinIds(prompts);
  checkDeltas(source, options?.adjust);
  if (options?.adjust?.names.includes(table.name)) {
    throw new TilereelError(
      `${options.adjust.path} adds to the embedding table ${table.name}, which is not supported; remove it from that file`,
    );
  }
  using weights = new Weights(gpu, source, options);
  using owned = new TensorOwner(gpu);
  let x = owned.adopt(gpu.upload(await embed(source, table, ids), [prompts.length, tokens, table.shape[1]]));
  if (model.start) {
    const y = owned.adopt(await model.start(weights, x));
    owned.free(x);
    x = y;
  }
  const progress = { stage: "encode prompt", onProgress, signal } as const;
  x = owned.adopt(await runOneByOne(gpu, { weights, prefixes, ...model }, owned.disown(x), progress));
  const y = owned.adopt(await model.end(weights, x));
  signal?.throwIfAborted();
  return owned.disown(y);
}

/** Rows of the embedding table, f32. It is the largest tensor of all; only these rows are read. */
async function embed(
  source: TensorSource,
  { name, shape }: TextBlocks<unknown>["table"],
  ids: Int32Array,
): Promise<Float32Array> {
  const unknown = ids.find((id) => id < 0 || id >= shape[0]);
  if (unknown !== undefined) {
    throw new TilereelError(
      `the tokenizer's token ${unknown} is unknown to the text encoder ${source.path}, which has ${shape[0]} tokens; ` +
        `use a tokenizer and a text encoder of the same model`,
    );
  }
  expectTensor(source, name, shape);
  return await readFloat32(source, name, ids);
}
