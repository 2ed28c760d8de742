import type { Gpu } from "../../gpu/gpu.ts";
import { formatBytes } from "../../gpu/common/format_bytes.ts";
import { prefixesOf } from "../attention/layout.ts";
import type { FamilyModel } from "../family.ts";
import { type WeightsOnGpu, weightsOnGpu } from "../weights/weight_dtype.ts";
import type { WeightOptions } from "../weights/weight_options.ts";
import { kindOf, SLOTS } from "./block_source.ts";

/** Where the blocks' weights are kept: on the GPU, or on disk, streamed through slots on the GPU. */
export type WeightsPlace = "resident" | "stream";

/** The values that the user can choose. "auto" is resident if the weights fit. */
export const WEIGHTS_CHOICES = ["auto", "resident", "stream"] as const satisfies readonly (WeightsPlace | "auto")[];
/** One of {@link WEIGHTS_CHOICES}. */
export type WeightsChoice = typeof WEIGHTS_CHOICES[number];

/** Where a transformer's weights are kept and why, in which formats, and how many bytes the GPU holds at once. */
export interface WeightsPlacement extends WeightsOnGpu {
  readonly place: WeightsPlace;
  /** A clause such as "it was requested". */
  readonly why: string;
}

/**
 * Decides where the weights are kept. Memory that the device already holds counts as used; what is
 * added to the weights may lie there, too.
 *
 * @param work the bytes that denoising the largest clip needs beside resident weights
 */
export function placeWeights(
  gpu: Gpu,
  model: Pick<FamilyModel, "weights" | "shape">,
  work: number,
  choice: WeightsChoice,
  options: WeightOptions,
): WeightsPlacement {
  const { weights: source, shape } = model, layerPrefixes = prefixesOf(shape);
  const tensors = source.names().map((name) => source.info(name)),
    { held = 0, bytes: adding = 0 } = options.adjust ?? {};
  const adjusting = held + adding;
  const loaded = weightsOnGpu(gpu, tensors, options), all = { ...loaded, bytes: loaded.bytes + adjusting };
  const placed = (place: WeightsPlace, why: string): WeightsPlacement => {
    if (place === "resident") return { ...all, place, why };
    // Slots hold the largest of each tensor of a kind of block; what belongs to no block is always there.
    const largest = new Map<string, number>();
    for (const tensor of tensors) {
      const { name } = tensor, prefix = layerPrefixes.find((prefix) => name.startsWith(prefix));
      const held = prefix === undefined ? name : `${kindOf(prefix)} ${name.slice(prefix.length)}`;
      const bytes = (prefix === undefined ? 1 : SLOTS) * weightsOnGpu(gpu, [tensor], options).bytes;
      largest.set(held, Math.max(largest.get(held) ?? 0, bytes));
    }
    return { ...all, place, why, bytes: [...largest.values()].reduce((a, b) => a + b, adjusting) };
  };
  if (choice !== "auto") return placed(choice, "it was requested");
  const budget = gpu.memoryBudget, needed = gpu.memory.used - held + all.bytes + work;
  const place = needed <= budget ? "resident" : "stream";
  const allowed = gpu.settings.memoryLimit === Infinity
    ? `the ${formatBytes(budget)} that a GPU is assumed to have where no limit is given`
    : `the limit of ${formatBytes(budget)}`;
  return placed(
    place,
    `${formatBytes(all.bytes)} of weights and up to ${formatBytes(work)} for the work ` +
      `${place === "resident" ? "fit" : "do not fit"} ${allowed}`,
  );
}
