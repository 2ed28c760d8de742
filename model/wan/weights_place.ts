/**
 * Whether a transformer's blocks lie on the GPU all at once, or are streamed from disk.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { formatBytes } from "../../format_bytes.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import type { TransformerConfig } from "./config.ts";

/** Where the blocks' weights lie: all on the GPU, or on disk, from where they pass through two slots on the GPU. */
export type WeightsPlace = "resident" | "stream";

/** What can be asked for; "auto" is resident where that fits. */
export type WeightsChoice = WeightsPlace | "auto";

/** Where a transformer's weights lie, and why. */
export interface WeightsPlacement {
  readonly place: WeightsPlace;
  /** A clause in words: "it was asked for". */
  readonly why: string;
}

/**
 * Tensors as large as the tokens that a denoising step holds at once: five in a block (see `runBlock`), and room for
 * what sparse attention makes, the angles of RoPE and latents. In f16 attention packs keys and values, and matrix units
 * take all that they multiply packed.
 */
const LIVE_TENSORS = { f32: 6.5, f16: 7, matrixUnits: 7.5 };

/** Bytes that denoising a clip takes beside resident weights, at most. */
export function denoisingBytes(gpu: Gpu, { dim }: Pick<TransformerConfig, "dim">, tokens: number): number {
  return LIVE_TENSORS[gpu.matrixUnits ? "matrixUnits" : gpu.settings.precision] * 4 * dim * tokens;
}

/**
 * Decides where the weights go. What the device holds already counts as taken.
 *
 * @param tokens of the largest clip to come
 */
export function placeWeights(
  gpu: Gpu,
  source: TensorSource,
  config: TransformerConfig,
  tokens: number,
  choice: WeightsChoice,
): WeightsPlacement {
  if (choice !== "auto") return { place: choice, why: "it was asked for" };
  const weights = source.names().reduce((sum, name) => sum + source.info(name).bytes, 0);
  const work = denoisingBytes(gpu, config, tokens);
  const budget = gpu.memoryBudget, needed = gpu.memory.used + weights + work;
  const place = needed <= budget ? "resident" : "stream";
  const allowed = gpu.settings.memoryLimit === Infinity
    ? `the ${formatBytes(budget)} that a GPU is assumed to have where no limit is given`
    : `the limit of ${formatBytes(budget)}`;
  return {
    place,
    why: `${formatBytes(weights)} of weights and up to ${formatBytes(work)} for the work ` +
      `${place === "resident" ? "fit" : "do not fit"} ${allowed}`,
  };
}
