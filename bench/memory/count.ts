import { dryGpu, type DryGpuOptions } from "../../gpu/device/dry.ts";
import { type GenerateOptions, type LoadOptions, VideoPipeline } from "../../model/pipeline.ts";
import type { FamilyModel } from "../../model/family.ts";
import type { Picture } from "../../model/picture/picture.ts";
import type { ClipSize } from "../../model/video_size.ts";
import type { WeightsPlace } from "../../model/blocks/weights_place.ts";
import { drySource } from "../full_size/made_source.ts";
import { type MadeDtype, SHAPES } from "../shapes.ts";

/** A clip, and how it is rendered. Guidance is 5 by default. */
export interface ModelCase
  extends
    ClipSize,
    Pick<LoadOptions, "weights" | "weightDtype">,
    Pick<GenerateOptions, "guidance" | "attention" | "cache"> {
  /** The device that it runs on. */
  readonly device?: DryGpuOptions;
}

/** The names of models, and those of their shapes. */
export const DRY_MODELS = {
  "1.3B": "1.3b",
  "14B": "14b",
  HunyuanVideo: "hunyuan",
  "TI2V 5B": "ti2v-5b",
  "I2V A14B": "i2v-a14b",
} as const;

/** The same with one of these models. */
export interface MemoryCase extends ModelCase {
  readonly model: keyof typeof DRY_MODELS;
  /** The format of the transformer's files. Default: BF16. */
  readonly stored?: MadeDtype;
}

/** The stages, in order. */
export const STAGES = ["load", "denoise", "decode"] as const;

/** Name of a stage. */
export type Stage = typeof STAGES[number];

/** The moment at which a stage held most. */
export interface StagePeak {
  /** The allocated bytes, with buffers that wait to be used again. */
  readonly held: number;
  /** The buffers by their size and the name of the first tensor in them, the largest share first. */
  readonly parts: readonly { readonly label: string; readonly count: number; readonly bytes: number }[];
}

/** The result of counting. */
export interface MemoryCount {
  readonly place: WeightsPlace;
  readonly peaks: Readonly<Record<Stage, StagePeak>>;
  /** The number of tiles in which pictures were decoded. */
  readonly tiles: number;
}

/** After this number of steps, UniPC's whole history is in memory. */
const STEPS = 3;

/** Counts the memory of rendering a clip stage by stage: the real pipeline on a dry device, with a model of Wan's. */
export async function countMemory({ model, stored, ...one }: MemoryCase): Promise<MemoryCount> {
  return await countModel(SHAPES[DRY_MODELS[model]].model(drySource, { ...stored && { stored } }), one);
}

/** Loads, denoises and decodes on a dry device. */
export async function countModel(
  model: FamilyModel,
  { weights, weightDtype, device, ...rest }: ModelCase,
): Promise<MemoryCount> {
  const books = new Books(), clip = { guidance: 5, ...rest };
  const gpu = dryGpu({ ...device, onBuffer: (event) => books.note(event) });
  const pipeline = await VideoPipeline.of(model, { gpu, weights, weightDtype, clips: [clip] });
  const { textDim, pooledDim, defaults: { textTokens } } = model;
  const zeros = (...shape: number[]) => ({ data: new Float32Array(shape.reduce((a, b) => a * b)), shape });
  const embeddings = {
    positive: { text: zeros(1, textTokens, textDim), ...pooledDim && { pooled: zeros(1, pooledDim) } },
  };
  // These are zeros, because drawing this many normal numbers takes as long as all the rest.
  const shape = model.latentShape(clip);
  let total = 0;
  await pipeline.generate({
    ...clip,
    prompt: "",
    latents: zeros(...shape),
    steps: STEPS,
    ...model.family.images && { image: blank(clip) },
    embeddings: { ...embeddings, ...model.passes(clip.guidance).length > 1 && { negative: embeddings.positive } },
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

/** A picture of a clip's size. */
function blank({ width, height }: ClipSize): Picture {
  return { width, height, rgb: new Uint8Array(width * height * 3) };
}

/** Keeps account of the buffers that are held. */
class Books {
  #stage: Stage = "load";
  #held = 0;
  /** By label and size. */
  readonly #live = new Map<string, { label: string; size: number; count: number }>();
  readonly #peaks = new Map<Stage, StagePeak>();
  /** Whether memory has grown since the peak was last noted. The peak is noted when it stops growing. */
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
