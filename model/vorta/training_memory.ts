/**
 * The memory of router training: counted, not estimated. A pass runs on a device that computes nothing.
 *
 * @module
 */
import { OutOfMemoryError } from "../../gpu/common/errors.ts";
import { formatBytes } from "../../gpu/common/format_bytes.ts";
import { dryTwin } from "../../gpu/device/dry.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import type { WeightsChoice, WeightsPlace } from "../blocks/weights_place.ts";
import { product } from "../attention/grid.ts";
import type { FamilyModel, TransformerOptions } from "../family.ts";
import { conditionedBy } from "../guidance.ts";
import type { ClipSize } from "../video_size.ts";
import { TRAINING_GUIDANCE } from "./recipe.ts";
import type { VortaSettings } from "./settings.ts";
import { trainingPass } from "./training_pass.ts";

/** A training whose memory is counted. */
export interface CountedTraining {
  readonly size: ClipSize;
  readonly settings: VortaSettings;
  /** Whether the loss needs the hidden layers. */
  readonly hidden: boolean;
  /** Where weights are kept. "auto": on the GPU if they fit. */
  readonly weights: WeightsChoice;
}

/** Where things are kept in a training, and how much memory they take, in bytes. */
export interface TrainingMemory {
  readonly place: WeightsPlace;
  /** Of the GPU, at its peak. */
  readonly gpu: number;
  /** The inputs of blocks that stay on the GPU, at most. */
  readonly keepBytes: number;
  /** Of this machine: the inputs of blocks that the GPU does not keep. */
  readonly host: number;
}

/**
 * Counts the memory of a pass on a device as this one, and decides what stays on the GPU: the weights if they fit its
 * budget, then as many inputs of blocks as there is room for.
 *
 * @param loading how the transformer is loaded
 * @throws {TilereelError} if it does not fit the device's limit
 */
export async function trainingMemory(
  gpu: Gpu,
  model: FamilyModel,
  loading: TransformerOptions,
  training: CountedTraining,
): Promise<TrainingMemory> {
  const { weights } = training, budget = gpu.memoryBudget;
  const working = (place: WeightsPlace) => count(gpu, model, { ...loading, place }, training);
  const resident = weights === "stream" ? undefined : await working("resident");
  const place = resident && (weights === "resident" || resident.peak <= budget) ? "resident" : "stream";
  const { peak, inputs } = place === "resident" ? resident! : await working("stream");
  if (peak > gpu.settings.memoryLimit) {
    throw new OutOfMemoryError(
      `a training pass takes ${formatBytes(peak)} of GPU memory at this size, but the limit is ${
        formatBytes(gpu.settings.memoryLimit)
      }; raise the limit, or train on smaller clips`,
    );
  }
  const keepBytes = Math.min(inputs, Math.max(0, budget - peak));
  return { place, gpu: peak + keepBytes, keepBytes, host: inputs - keepBytes };
}

/** Runs a pass. `peak` is without the inputs of blocks. */
async function count(
  gpu: Gpu,
  model: FamilyModel,
  loading: TransformerOptions,
  { size, settings, hidden }: CountedTraining,
): Promise<{ readonly peak: number; readonly inputs: number }> {
  const dry = dryTwin(gpu, { memoryLimit: Infinity });
  using transformer = await model.loadTransformer(dry, { ...loading, onProgress: () => {} });
  using owner = new TensorOwner(dry);
  const tensor = (shape: readonly number[]) => owner.adopt(dry.tensor(shape));
  const { textDim, pooledDim, defaults: { textTokens } } = model, { shape } = transformer;
  const [pass] = model.passes(TRAINING_GUIDANCE), latents = model.latentShape(size);
  const conditioning = conditionedBy(pass!, {
    text: tensor([1, textTokens, textDim]),
    ...pooledDim && { pooled: tensor([1, pooledDim]) },
  });
  const scores = new Float32Array(shape.layers * shape.heads * 3).fill(1 / 3);
  const weights = { diffusion: 1, distillation: 1, hidden: hidden ? 1 : 0 };
  await trainingPass(dry, transformer, {
    ...{ noisy: tensor(latents), target: tensor(latents), timestep: 500, conditioning, scores, settings, weights },
    keepBytes: Infinity,
  });
  const { grid, kept } = transformer.layout(latents, conditioning);
  const inputs = 4 * shape.layers * (product(grid) + kept) * shape.heads * shape.headDim;
  return { peak: dry.memory.peak - inputs, inputs };
}
