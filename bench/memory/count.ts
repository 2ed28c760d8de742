/**
 * The memory that rendering a clip takes, stage by stage: the real pipeline on a dry device.
 *
 * @module
 */
import { dryGpu, type DryGpuOptions } from "../../gpu/device/dry.ts";
import type { AttentionMethod } from "../../model/attention/method.ts";
import type { StepCache } from "../../model/cache/step_cache.ts";
import { VideoPipeline } from "../../model/pipeline.ts";
import type { FamilyModel } from "../../model/family.ts";
import type { ClipSize } from "../../model/video_size.ts";
import type { WeightDtypeChoice } from "../../model/weights/weight_dtype.ts";
import type { WeightsChoice, WeightsPlace } from "../../model/blocks/weights_place.ts";
import { type DRY_MODELS, dryModel } from "./dry_model.ts";

/** What is rendered, and how. */
export interface ModelCase extends ClipSize {
  readonly weights?: WeightsChoice;
  /** Default: "auto". */
  readonly weightDtype?: WeightDtypeChoice;
  readonly guidance?: number;
  readonly attention?: AttentionMethod;
  readonly cache?: StepCache;
  /** What it runs on. */
  readonly device?: DryGpuOptions;
}

/** The same with one of Wan's models. */
export interface MemoryCase extends ModelCase {
  readonly model: typeof DRY_MODELS[number];
  /** What the transformer's files are. Default: BF16. */
  readonly stored?: "F32" | "BF16";
}

/** The stages, in order. */
export const STAGES = ["load", "denoise", "decode"] as const;

/** Name of a stage. */
export type Stage = typeof STAGES[number];

/** A moment at which a stage held most. */
export interface StagePeak {
  /** Bytes allocated, buffers that wait to be used again included. */
  readonly held: number;
  /** Sizes of the buffers, with what the first tensor in each was; largest share first. */
  readonly parts: readonly { readonly label: string; readonly count: number; readonly bytes: number }[];
}

/** What was counted. */
export interface MemoryCount {
  readonly place: WeightsPlace;
  readonly peaks: Readonly<Record<Stage, StagePeak>>;
  /** Tiles of the picture that were decoded. */
  readonly tiles: number;
}

/** Steps that are enough to have all that UniPC remembers in memory. */
const STEPS = 3;

/** Loads, denoises and decodes with one of Wan's models on a dry device. */
export async function countMemory({ model, stored, ...one }: MemoryCase): Promise<MemoryCount> {
  return await countModel(dryModel(model, { stored }), one);
}

/** Loads, denoises and decodes on a dry device. */
export async function countModel(
  model: FamilyModel,
  { width, height, frames, weights = "auto", weightDtype = "auto", guidance = 5, ...rest }: ModelCase,
): Promise<MemoryCount> {
  const { attention, cache, device } = rest, books = new Books();
  const gpu = dryGpu({ ...device, onBuffer: (event) => books.note(event) });
  const clip = { width, height, frames };
  const pipeline = await VideoPipeline.of(model, {
    gpu,
    weights,
    weightDtype,
    clips: [{ ...clip, guidance, ...cache && { cache } }],
  });
  const embeddings = { positive: new Float32Array(model.defaults.textTokens * model.textDim) };
  // Zeros, because drawing this many normal numbers takes as long as all the rest.
  const shape = model.latentShape(clip);
  let total = 0;
  await pipeline.generate({
    ...clip,
    prompt: "",
    latents: { data: new Float32Array(shape.reduce((a, b) => a * b)), shape },
    steps: STEPS,
    guidance,
    embeddings: { ...embeddings, ...guidance > 1 && { negative: embeddings.positive } },
    ...attention && { attention },
    ...cache && { cache },
    onProgress: (progress) => {
      if (progress.stage === "denoise" && progress.done === 0) books.begin("denoise");
      if (progress.stage === "decode" && progress.done === 0) books.begin("decode");
      if (progress.stage === "decode") total = progress.total;
    },
  });
  const { place } = pipeline.weights;
  pipeline.close();
  return { place, peaks: books.peaks(), tiles: total / shape[2]! };
}

/** Follows the buffers that are held. */
class Books {
  #stage: Stage = "load";
  #held = 0;
  /** By label and size. */
  readonly #live = new Map<string, { label: string; size: number; count: number }>();
  readonly #peaks = new Map<Stage, StagePeak>();
  /** Whether more is held than when the peak was last looked at: it is written down when that ends. */
  #rising = false;

  note({ label: given, size, made }: { label: string; size: number; made: boolean }): void {
    if (!made) this.#writeDown();
    const label = given.replace(/blocks\.\d+\./, "blocks.N.");
    const key = `${size} ${label}`;
    const entry = this.#live.get(key) ?? { label, size, count: 0 };
    entry.count += made ? 1 : -1;
    this.#live.set(key, entry);
    this.#held += made ? size : -size;
    this.#rising ||= made;
  }

  begin(stage: Stage): void {
    this.#writeDown();
    this.#stage = stage;
    this.#rising = true;
  }

  peaks(): Record<Stage, StagePeak> {
    this.#writeDown();
    return Object.fromEntries(this.#peaks) as Record<Stage, StagePeak>;
  }

  #writeDown(): void {
    if (!this.#rising) return;
    this.#rising = false;
    const before = this.#peaks.get(this.#stage);
    if (before && before.held >= this.#held) return;
    const parts = [...this.#live.values()].filter(({ count }) => count > 0)
      .map(({ label, size, count }) => ({ label, count, bytes: size * count }))
      .sort((a, b) => b.bytes - a.bytes);
    this.#peaks.set(this.#stage, { held: this.#held, parts });
  }
}
