/**
 * Whether clips fit the GPU's memory, before anything is loaded, and what would.
 *
 * @module
 */
import { OutOfMemoryError, TilereelError } from "../../gpu/common/errors.ts";
import { formatBytes } from "../../gpu/common/format_bytes.ts";
import { dryTwin } from "../../gpu/device/dry.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import type { Precision } from "../../gpu/precision.ts";
import type { FamilyModel } from "../family.ts";
import type { ClipToCome, LoadOptions } from "../pipeline.ts";
import type { ClipSize } from "../video_size.ts";
import { weightsOnGpu } from "../weights/weight_dtype.ts";
import { type CountedClip, countMemory, lent, type MemoryCount, peakOf, type Stage } from "./clip_memory.ts";

/** How a model is to be loaded, and for which clips. */
export type FitOptions = Pick<LoadOptions, "weights" | "weightDtype" | "adjust" | "clips">;

/** Bytes of a decoder, and of its work for each pixel of a picture: more than any takes that has all it wants. */
const DECODER = 6e8, DECODED_PIXEL = 6.4e4;
/** Sizes that are tried in place of one that does not fit, as shares of its edges. */
const SMALLER = [0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35, 0.3, 0.25];
/** Memory that is tried in place of too little, as multiples of it. */
const MORE = [1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.4, 1.5, 1.75, 2, 2.5, 3, 4, 6, 8];

/**
 * Counts the memory of the largest clip on a device as this one.
 *
 * @returns a clause that says so if there is no limit, and it takes more than plans assume; undefined if all is well
 * @throws {OutOfMemoryError} if it does not fit the device's limit, with what would
 */
export async function checkFits(gpu: Gpu, model: FamilyModel, options: FitOptions): Promise<string | undefined> {
  const { clips = [], ...how } = options, { memoryLimit } = gpu.settings;
  const all = (clips.length ? clips : [{}]).map((clip) => countedOf(model, clip, how));
  const [clip] = all.toSorted((a, b) => pixels(b) - pixels(a)) as [CountedClip];
  if (isRoomy(gpu, model, clip)) return undefined;
  let stage: Stage = "load";
  try {
    const peak = peakOf(await count(gpu, model, clip, { onStage: (begun) => stage = begun }));
    if (memoryLimit < Infinity || peak <= gpu.memoryBudget) return undefined;
    return `a clip of ${sizeText(clip)} takes up to ${
      formatBytes(peak)
    } of GPU memory here; if the GPU has less, give its ` +
      `memory as the limit, and the clip is planned for that`;
  } catch (error) {
    // What else is wrong shows when it is done.
    if (!(error instanceof OutOfMemoryError)) return undefined;
    const what = { load: "loaded", denoise: "denoised", decode: "decoded" }[stage];
    const fitting = await whatFits(gpu, model, clip);
    throw new OutOfMemoryError(
      `a clip of ${sizeText(clip)} does not fit ${
        memoryLimit === Infinity ? "this adapter" : `a limit of ${formatBytes(memoryLimit)} of GPU memory`
      } while it is ${what}: ${fitting.length > 0 ? `it fits ${fitting.join(", or ")}` : error.message}`,
      { cause: error },
    );
  }
}

/** Settings with which a clip fits, in words, the smallest change first. */
async function whatFits(gpu: Gpu, model: FamilyModel, clip: CountedClip): Promise<string[]> {
  const { side, frames: step } = model.family.multiples, { memoryLimit } = gpu.settings;
  const fits = async (changes: Partial<CountedClip>, others: CountOptions = {}) =>
    await count(gpu, model, { ...clip, ...changes }, others).then(() => true, (error) => {
      if (!(error instanceof TilereelError)) throw error;
      return false;
    });
  const streamed = clip.weights === "resident" && await fits({ weights: "auto" });
  const canRound = gpu.precision !== "int8" && ["auto", "int8"].includes(clip.weightDtype ?? "auto");
  const rounded = canRound && await fits({}, { precision: "int8" });
  const counts = Array.from({ length: (clip.frames - 1) / step }, (_, i) => clip.frames - (i + 1) * step);
  const frames = await firstThat(counts, (frames) => fits({ frames }));
  const sizes = SMALLER.map((share) => {
    const [width, height] = [clip.width, clip.height].map((edge) =>
      Math.max(1, Math.floor(share * edge / side)) * side
    );
    return { width: width!, height: height! };
  });
  const size = await firstThat(sizes, fits);
  const limits = memoryLimit === Infinity ? [] : MORE.map((times) => times * memoryLimit);
  const limit = await firstThat(limits, (memoryLimit) => fits({}, { memoryLimit }));
  return [
    ...streamed ? ["with weights that are streamed"] : [],
    ...rounded ? ["with precision int8"] : [],
    ...frames !== undefined ? [`with ${framesText(frames)}`] : [],
    ...size ? [`at ${size.width}x${size.height}`] : [],
    ...limit !== undefined ? [`with a limit of ${formatBytes(limit)}`] : [],
  ];
}

/** The first of several for which it holds, if it holds for all behind it; undefined if for none. */
async function firstThat<T>(all: readonly T[], holds: (one: T) => Promise<boolean>): Promise<T | undefined> {
  let [from, to] = [0, all.length];
  while (from < to) {
    const middle = Math.floor((from + to) / 2);
    if (await holds(all[middle]!)) to = middle;
    else from = middle + 1;
  }
  return all[from];
}

/** What is other than on the device. */
interface CountOptions {
  readonly precision?: Precision;
  readonly memoryLimit?: number;
  readonly onStage?: (stage: Stage) => void;
}

/**
 * Counts the memory of a clip on a device as this one.
 *
 * @throws {OutOfMemoryError} as {@link countMemory} does
 * @throws {TilereelError} if the adapter cannot have that precision
 */
export async function count(
  gpu: Gpu,
  model: FamilyModel,
  clip: CountedClip,
  { onStage, ...others }: CountOptions = {},
): Promise<MemoryCount> {
  return await countMemory((onBuffer) => dryTwin(gpu, { ...others, onBuffer }), lent(model), clip, onStage);
}

function countedOf(model: FamilyModel, clip: ClipToCome, how: Omit<FitOptions, "clips">): CountedClip {
  const { defaults } = model, { weights, weightDtype, adjust } = how;
  const { width = defaults.width, height = defaults.height, frames = defaults.frames } = clip;
  const { guidance = defaults.guidance, attention, cache, image } = clip;
  return {
    ...{ width, height, frames, guidance, weights, weightDtype, adjust, pictures: image !== undefined },
    ...attention && { attention },
    ...cache && { cache },
  };
}

/** Whether a clip fits without any doubt, and nothing need be counted. */
function isRoomy(gpu: Gpu, model: FamilyModel, clip: CountedClip): boolean {
  const { weights: source } = model, tensors = source.names().map((name) => source.info(name));
  const weights = weightsOnGpu(gpu, tensors, { dtype: clip.weightDtype }).bytes;
  const denoising = model.denoisingBytes(gpu, clip), decoding = DECODER + DECODED_PIXEL * clip.width * clip.height;
  const all = gpu.memory.used + 2 * (weights + denoising) + decoding;
  return all <= gpu.memoryBudget && denoising <= 2 * gpu.maxTensorBytes;
}

const pixels = ({ width, height, frames }: ClipSize) => width * height * frames;

const framesText = (frames: number) => `${frames} ${frames === 1 ? "frame" : "frames"}`;

const sizeText = ({ width, height, frames }: ClipSize) => `${width}x${height} with ${framesText(frames)}`;
