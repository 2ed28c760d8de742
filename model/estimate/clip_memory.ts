/**
 * The GPU memory that a clip takes: counted, not estimated. The pipeline runs on a device that computes nothing.
 *
 * @module
 */
import type { DryGpuOptions } from "../../gpu/device/dry.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import type { WeightsPlace } from "../blocks/weights_place.ts";
import type { FamilyModel } from "../family.ts";
import type { Picture } from "../picture/picture.ts";
import { type GenerateOptions, type LoadOptions, VideoPipeline } from "../pipeline.ts";
import type { ClipSize } from "../video_size.ts";

/** A clip, and how it is rendered. Guidance is 5 by default. */
export interface CountedClip
  extends
    ClipSize,
    Pick<LoadOptions, "weights" | "weightDtype" | "adjust">,
    Pick<GenerateOptions, "guidance" | "attention" | "cache"> {
  /** Whether pictures are encoded where the model can do without. Default: yes */
  readonly pictures?: boolean | undefined;
}

/** The stages, in order. */
export const STAGES = ["load", "denoise", "decode"] as const;

/** Name of a stage. Pictures are encoded in "load". */
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

/** The bytes at the highest of all peaks. */
export const peakOf = ({ peaks }: MemoryCount): number => Math.max(...STAGES.map((stage) => peaks[stage].held));

/** After this number of steps, UniPC's whole history is in memory. */
const STEPS = 3;

/**
 * Loads, denoises and decodes a clip on a dry device. Text is not encoded: of its encoder, one block at a time is there.
 *
 * @param open opens the device, which tells of its buffers
 * @param model taken over
 * @param onStage told of each stage that begins
 * @throws {OutOfMemoryError} if it does not fit the device's limit, also with less
 */
export async function countMemory(
  open: (onBuffer: NonNullable<DryGpuOptions["onBuffer"]>) => Gpu,
  model: FamilyModel,
  { weights, weightDtype, adjust, pictures = true, ...rest }: CountedClip,
  onStage: (stage: Stage) => void = () => {},
): Promise<MemoryCount> {
  const books = new Books(), clip = { guidance: 5, ...rest }, gpu = open((event) => books.note(event));
  onStage("load");
  const pipeline = await VideoPipeline.of(model, { gpu, weights, weightDtype, adjust, clips: [clip] });
  try {
    const { textDim, pooledDim, defaults: { textTokens }, family: { images } } = model;
    const zeros = (...shape: number[]) => ({ data: new Float32Array(shape.reduce((a, b) => a * b)), shape });
    // As long as a prompt can be.
    const text = zeros(1, textTokens, textDim);
    text.data.fill(1);
    const embeddings = { positive: { text, ...pooledDim && { pooled: zeros(1, pooledDim) } } };
    const begin = (stage: Stage) => {
      books.begin(stage);
      onStage(stage);
    };
    const needs = (need = "none") => need === "required" || pictures && need === "optional";
    // These are zeros, because drawing this many normal numbers takes as long as all the rest.
    const shape = model.latentShape(clip);
    let total = 0;
    await pipeline.generate({
      ...clip,
      prompt: "",
      latents: zeros(...shape),
      steps: STEPS,
      ...needs(images?.image) && { image: blank(clip) },
      ...needs(images?.lastImage) && { lastImage: blank(clip) },
      embeddings: { ...embeddings, ...model.passes(clip.guidance).length > 1 && { negative: embeddings.positive } },
      onProgress: (progress) => {
        if (progress.stage === "denoise" && progress.done === 0) begin("denoise");
        if (progress.stage === "decode" && progress.done === 0) begin("decode");
        if (progress.stage === "decode") total = progress.total;
      },
    });
    return { place: pipeline.weights.place, peaks: books.peaks(), tiles: total / shape[2]! };
  } finally {
    pipeline.close();
  }
}

/** The same model, which stays open when a pipeline that took it over is closed. */
export function lent(model: FamilyModel): FamilyModel {
  return Object.create(model, { [Symbol.dispose]: { value: () => {} } });
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
