import { basename } from "node:path";
import { elementCount } from "../../model/checkpoint/dtype.ts";
import type { GenerationDefaults } from "../../model/checkpoint/generation_defaults.ts";
import { openModelFolder } from "../../model/checkpoint/model_folder.ts";
import { openPart } from "../../model/checkpoint/open_part.ts";
import type { FileStore } from "../../model/files/store.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import { f32 } from "../../gpu/formats/f32.ts";
import { bytesOf } from "../../gpu/tensor.ts";
import type { Distilled, PartWeights } from "../../model/family.ts";
import type { TensorInfo } from "../../model/checkpoint/tensor_source.ts";
import type { ImageNeeds } from "../../model/pictures_of_clip.ts";
import { largestBlock, type WeightDtypeChoice, weightsOnGpu } from "../../model/weights/weight_dtype.ts";

/** A part that has weights. */
export interface ComponentDescription {
  readonly name: string;
  readonly parameters: number;
  /** Number formats in use, the most used first. */
  readonly dtypes: readonly string[];
  readonly files: readonly { readonly name: string; readonly bytes: number }[];
  readonly onGpu: {
    /** Formats that its matrices are held in, the most used first. */
    readonly dtypes: readonly string[];
    /** All weights together. */
    readonly bytes: number;
    /** The largest block. Text encoders and streamed transformers are on the GPU one block at a time. */
    readonly blockBytes?: number;
  };
}

/** How weights would be held. */
export interface WeightsHeld {
  /** Whether products hold their operands in f16. */
  readonly f16: boolean;
  /** Whether products by int8 weights have both operands in int8. */
  readonly int8: boolean;
  readonly dtype: WeightDtypeChoice;
}

/** What a model folder holds, from its configs and the headers of its weights. */
export interface ModelDescription {
  readonly path: string;
  /** Its family and kind: "Wan 2.1 I2V". */
  readonly kind: string;
  /** The pictures that it takes. */
  readonly images?: ImageNeeds;
  readonly components: readonly ComponentDescription[];
  /** Parts that are only configuration. */
  readonly withoutWeights: readonly string[];
  /** Parts the folder comes without. */
  readonly missing: readonly string[];
  readonly defaults: GenerationDefaults;
  /** Present where it is a distilled model. */
  readonly distilled?: Distilled;
}

/**
 * Describes the model in a folder.
 *
 * @throws {TilereelError} when it holds no model, or a part's weights are damaged
 */
export async function describeModel(path: string, held: WeightsHeld): Promise<ModelDescription> {
  const folder = await openModelFolder(path);
  const components: ComponentDescription[] = [];
  const withoutWeights: string[] = [];
  const missing: string[] = [];
  for (const [name, { weights }] of Object.entries(folder.family.parts)) {
    const part = await folder.component(name).catch((error) => {
      if (!(error instanceof TilereelError)) throw error;
    });
    if (!part) missing.push(name);
    else if (weights) components.push(await describeComponent(name, part, weights, held));
    else withoutWeights.push(name);
  }
  const { generation: defaults, distilled, family: { name: kind, images } } = folder;
  const optional = { ...images && { images }, ...distilled && { distilled } };
  return { path, kind, components, withoutWeights, missing, defaults, ...optional };
}

async function describeComponent(
  name: string,
  folder: FileStore,
  part: PartWeights,
  held: WeightsHeld,
): Promise<ComponentDescription> {
  using weights = await openPart(folder, part);
  const infos = weights.names().map((tensor) => weights.info(tensor));
  const byDtype = new Map<string, number>();
  for (const { dtype, shape } of infos) byDtype.set(dtype, (byDtype.get(dtype) ?? 0) + elementCount(shape));
  const paths = [...new Set(infos.map((info) => info.file))].sort();
  return {
    name,
    parameters: infos.reduce((sum, info) => sum + elementCount(info.shape), 0),
    onGpu: onGpu(part, infos, held),
    dtypes: [...byDtype].sort(([, a], [, b]) => b - a).map(([dtype]) => dtype),
    files: await Promise.all(
      paths.map(async (file) => ({ name: basename(file), bytes: (await Deno.stat(file)).size })),
    ),
  };
}

function onGpu(
  { block, used = () => true, exact, quantised, widened = false }: PartWeights,
  tensors: readonly TensorInfo[],
  { dtype, ...gpu }: WeightsHeld,
): ComponentDescription["onGpu"] {
  const uploaded = tensors.filter(({ name }) => used(name));
  if (widened) return { dtypes: ["f32"], bytes: uploaded.reduce((sum, { shape }) => sum + bytesOf(shape, f32), 0) };
  const options = { dtype, quantised }, { held, bytes } = weightsOnGpu(gpu, uploaded, options, exact);
  return {
    dtypes: held,
    bytes,
    ...block && { blockBytes: largestBlock(gpu, uploaded, block, options, exact) },
  };
}
