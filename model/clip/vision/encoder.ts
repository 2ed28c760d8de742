import { TilereelError } from "../../../gpu/common/errors.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { combine } from "../../../gpu/ops/combine.ts";
import { layerNorm } from "../../../gpu/ops/layer_norm.ts";
import { patchify } from "../../../gpu/ops/patches.ts";
import type { Tensor } from "../../../gpu/tensor.ts";
import { TensorOwner } from "../../../gpu/tensor_owner.ts";
import { runOneByOne } from "../../blocks/one_by_one.ts";
import { openPart } from "../../checkpoint/open_part.ts";
import type { TensorSource } from "../../checkpoint/tensor_source.ts";
import type { CodingOptions } from "../../family.ts";
import { folderAt } from "../../files/disk.ts";
import type { FileStore } from "../../files/store.ts";
import { Linear } from "../../layers/linear.ts";
import { loadNorm } from "../../layers/norm.ts";
import type { WeightOptions } from "../../weights/weight_options.ts";
import { Weights } from "../../weights/weights.ts";
import { clipPrefixes, loadClipBlock, runClipBlock } from "../block.ts";
import { type ClipVisionConfig, readClipVisionConfig } from "./config.ts";
import { CLIP_VISION_WEIGHTS } from "./weights.ts";

/** The blocks at the end that are left out: the last gives what is compared with texts, and loses what is seen. */
const SKIPPED_LAYERS = 1;

/**
 * Opens CLIP's image encoder in transformers' layout. No weights are read before they are needed.
 *
 * @param place a folder that holds `config.json` and the safetensors
 * @param imageDim channels of an image token that the transformer takes
 * @throws {TilereelError} if the folder holds no such encoder, a damaged one, or one for another transformer
 */
export async function openClipVisionEncoder(
  gpu: Gpu,
  place: string | FileStore,
  imageDim: number,
  options?: WeightOptions,
): Promise<ClipVisionEncoder> {
  const folder = folderAt(place), config = await readClipVisionConfig(folder.file("config.json"));
  if (config.dim !== imageDim) {
    throw new TilereelError(
      `${folder.path} makes image embeddings of ${config.dim} channels, but the transformer takes ${imageDim}; ` +
        `use the image encoder that the transformer was trained with`,
    );
  }
  return new ClipVisionEncoder(gpu, config, await openPart(folder, CLIP_VISION_WEIGHTS), options);
}

/** transformers' `CLIPVisionModel`: makes tokens of pictures, `hidden_states[-2]`. */
export class ClipVisionEncoder implements Disposable {
  /** Takes `source` over: disposing of this closes it. */
  constructor(
    private readonly gpu: Gpu,
    readonly config: ClipVisionConfig,
    private readonly source: TensorSource,
    private readonly options?: WeightOptions,
  ) {}

  /**
   * Encodes pictures. Blocks are on the GPU one by one.
   *
   * @param pixels [pictures, 3, image size, image size], f32, normalized: see `clipPixels`
   * @returns [pictures, tokens, dim], f32; the caller's
   * @throws {TilereelError} if weights are missing or do not fit, or memory runs out
   * @throws the signal's reason, if it is aborted
   */
  async encode(pixels: Tensor, { onProgress, signal }: CodingOptions = {}): Promise<Tensor> {
    const { gpu, config, source, options } = this, { layers } = config;
    using weights = new Weights(gpu, source, options);
    using owned = new TensorOwner(gpu);
    const x = owned.adopt(await this.#embed(weights, pixels));
    return await runOneByOne(
      gpu,
      {
        ...{ weights, prefixes: clipPrefixes(layers - SKIPPED_LAYERS) },
        load: (weights) => loadClipBlock(weights, config),
        run: (block, x) => runClipBlock(gpu, block, config, x),
      },
      owned.disown(x),
      { stage: "encode image", onProgress, signal },
    );
  }

  [Symbol.dispose](): void {
    this.source.close();
  }

  /** [pictures, tokens, dim]: the class token and the patches, with their positions, after the first norm */
  async #embed(weights: Weights, pixels: Tensor): Promise<Tensor> {
    const { gpu, config: { dim, patchSize, tokens, eps } } = this, pictures = pixels.dim(0);
    const embeddings = weights.scope("embeddings."), inputs = 3 * patchSize ** 2;
    const patchEmbedding = await Linear.load(embeddings, "patch_embedding", dim, inputs, {
      ...{ bias: false, stored: [dim, 3, patchSize, patchSize] },
    });
    const classToken = await embeddings.vector("class_embedding", [dim]);
    const positions = await embeddings.vector("position_embedding.weight", [tokens, dim]);
    const norm = await loadNorm(weights, "pre_layrnorm", dim);
    return gpu.scope(() => {
      const frames = pixels.reshape([pictures, 3, 1, ...pixels.shape.slice(2)]);
      const patches = patchEmbedding.apply(gpu, patchify(gpu, frames, [1, patchSize, patchSize]));
      const x = gpu.tensor([pictures, tokens, dim]), everywhere = gpu.tensor(x.shape);
      const rows = x.reshape([pictures * tokens, dim]);
      for (let i = 0; i < pictures; i++) {
        gpu.copy(classToken, rows.slice(i * tokens, 1));
        gpu.copy(patches.slice(i, 1), rows.slice(i * tokens + 1, tokens - 1));
        gpu.copy(positions, everywhere.slice(i, 1));
      }
      return layerNorm(gpu, combine(gpu, [[1, x], [1, everywhere]]), eps, norm);
    });
  }
}
