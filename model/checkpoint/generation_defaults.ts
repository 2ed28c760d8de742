/**
 * The defaults of a model for options that the user does not give.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import { fileAt } from "../files/disk.ts";
import { isNotFound } from "../files/file_error.ts";
import type { StoredFile } from "../files/store.ts";
import { checkFrames, checkSize } from "../video_size.ts";
import { Config } from "./json.ts";
import { readTrainedSizes, type TrainedSize } from "./trained_sizes.ts";

/** A model's own defaults, from `generation.json` in its folder. */
export interface GenerationDefaults {
  readonly width: number;
  readonly height: number;
  readonly frames: number;
  /** Frames per second. */
  readonly fps: number;
  /** Denoising steps. */
  readonly steps: number;
  /** Guidance scale; 1 means none. */
  readonly guidance: number;
  /** The number of tokens that a prompt is padded or cut to. */
  readonly textTokens: number;
  /** The sizes of clips that the model was trained on, if the folder says so. */
  readonly trained?: readonly TrainedSize[];
}

/** The defaults of Wan 2.1. */
export const WAN_GENERATION_DEFAULTS: GenerationDefaults = {
  width: 832,
  height: 480,
  frames: 81,
  fps: 16,
  steps: 50,
  guidance: 5,
  textTokens: 512,
};

const KEYS = ["width", "height", "frames", "fps", "steps", "guidance", "text_tokens", "trained"];

/**
 * Reads `generation.json`. Absent keys have Wan's defaults, and so have all keys if there is no such file.
 *
 * @throws {TilereelError} if a key is unknown or its value is of the wrong type or does not fit.
 */
export async function readGenerationDefaults(place: string | StoredFile): Promise<GenerationDefaults> {
  const wan = WAN_GENERATION_DEFAULTS, file = fileAt(place), { path } = file;
  let config: Config;
  try {
    config = await Config.read(file);
  } catch (error) {
    if (isNotFound(error)) return wan;
    throw error;
  }
  const unknown = config.keys().find((key) => !KEYS.includes(key));
  if (unknown !== undefined) {
    throw new TilereelError(`${path}: ${JSON.stringify(unknown)} is not known; the keys are ${KEYS.join(", ")}`);
  }
  const trained = readTrainedSizes(config.value("trained"), path);
  const defaults: GenerationDefaults = {
    width: config.integer("width", wan.width),
    height: config.integer("height", wan.height),
    frames: config.integer("frames", wan.frames),
    fps: config.number("fps", wan.fps, { positive: true }),
    steps: config.integer("steps", wan.steps),
    guidance: config.number("guidance", wan.guidance, { min: 0 }),
    textTokens: config.integer("text_tokens", wan.textTokens),
    ...trained && { trained },
  };
  checkSize(defaults.width, defaults.height, `${path}: size`);
  checkFrames(defaults.frames, `${path}: frames`);
  return defaults;
}
