/**
 * Decides whether a transformer's blocks are all kept on the GPU or are streamed from disk.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { formatBytes } from "../../gpu/common/format_bytes.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import { largestBlock, type WeightDtypeChoice, type WeightsOnGpu, weightsOnGpu } from "../weight_dtype.ts";
import { WAN_BLOCK } from "../wan/block.ts";
import { SLOTS } from "./block_source.ts";
import type { TransformerConfig } from "../wan/config.ts";

/** Where the blocks' weights are kept: on the GPU, or on disk, streamed through two slots on the GPU. */
export type WeightsPlace = "resident" | "stream";

/** The values that the user can choose. "auto" is resident if the weights fit. */
export const WEIGHTS_CHOICES = ["auto", "resident", "stream"] as const satisfies readonly (WeightsPlace | "auto")[];
/** One of {@link WEIGHTS_CHOICES}. */
export type WeightsChoice = typeof WEIGHTS_CHOICES[number];

/** Where a transformer's weights are kept and why, in which formats, and how many bytes the GPU holds at once. */
export interface WeightsPlacement extends WeightsOnGpu {
  readonly place: WeightsPlace;
  /** A clause such as "it was asked for". */
  readonly why: string;
}

/**
 * The number of tensors of the tokens' size that a denoising step holds at once: five in a block (see `runBlock`), and
 * more for sparse attention, the angles of RoPE, and latents. In f16, attention packs keys and values, and matrix units
 * need all operands packed.
 */
const LIVE_TENSORS = { f32: 6.5, f16: 7, matrixUnits: 7.5 };

/** The most bytes that denoising a clip needs beside resident weights. */
export function denoisingBytes(gpu: Gpu, { dim }: Pick<TransformerConfig, "dim">, tokens: number): number {
  return LIVE_TENSORS[gpu.matrixUnits ? "matrixUnits" : gpu.settings.precision] * 4 * dim * tokens;
}

/**
 * Decides where the weights are kept. Memory that the device already holds counts as used.
 *
 * @param tokens the number of tokens of the largest clip
 * @param dtype the format of matrices on the GPU
 */
export function placeWeights(
  gpu: Gpu,
  source: TensorSource,
  config: TransformerConfig,
  tokens: number,
  choice: WeightsChoice,
  dtype: WeightDtypeChoice,
): WeightsPlacement {
  const tensors = source.names().map((name) => source.info(name)), all = weightsOnGpu(gpu, tensors, dtype);
  const weights = all.bytes;
  const placed = (place: WeightsPlace, why: string): WeightsPlacement => {
    const outer = tensors.filter(({ name }) => !WAN_BLOCK.test(name));
    const bytes = place === "resident"
      ? weights
      : weightsOnGpu(gpu, outer, dtype).bytes + SLOTS * largestBlock(gpu, tensors, WAN_BLOCK, dtype);
    return { ...all, place, why, bytes };
  };
  if (choice !== "auto") return placed(choice, "it was asked for");
  const work = denoisingBytes(gpu, config, tokens);
  const budget = gpu.memoryBudget, needed = gpu.memory.used + weights + work;
  const place = needed <= budget ? "resident" : "stream";
  const allowed = gpu.settings.memoryLimit === Infinity
    ? `the ${formatBytes(budget)} that a GPU is assumed to have where no limit is given`
    : `the limit of ${formatBytes(budget)}`;
  return placed(
    place,
    `${formatBytes(weights)} of weights and up to ${formatBytes(work)} for the work ` +
      `${place === "resident" ? "fit" : "do not fit"} ${allowed}`,
  );
}
