import { quotedValue, TilereelError } from "../../gpu/common/errors.ts";
import { isNotFound } from "../files/file_error.ts";
import type { StoredFile } from "../files/store.ts";
import type { Family } from "../family.ts";
import { checkClip, type ClipSize } from "../video_size.ts";
import { Config } from "./json.ts";
import { readTrainedSizes, type TrainedSize } from "./trained_sizes.ts";

/** A model's own defaults, from `generation.json` in its folder. */
export interface GenerationDefaults extends ClipSize {
  /** Frames per second. */
  readonly fps: number;
  /** Denoising steps. */
  readonly steps: number;
  /** Guidance scale; 1 means none. */
  readonly guidance: number;
  /** That at low noise, where the model has another transformer there. */
  readonly guidanceLow?: number;
  /** The number of tokens that a prompt is padded or cut to. */
  readonly textTokens: number;
  /** The sizes of clips that the model was trained on, and their flow shifts, if the folder says so. */
  readonly trained?: readonly TrainedSize[];
}

/** Limits above what models are trained for: the encoders' longest texts have some thousand tokens. */
const MOST_STEPS = 10_000, MOST_TEXT_TOKENS = 2 ** 14;

const KEYS = ["width", "height", "frames", "fps", "steps", "guidance", "guidance_low", "text_tokens", "trained"];

/**
 * Reads `generation.json`. Absent keys have the family's defaults, and so have all keys if there is no such file.
 *
 * @throws {TilereelError} if a key is unknown or its value is of the wrong type or does not fit.
 */
export async function readGenerationDefaults(
  file: StoredFile,
  { defaults: usual, multiples }: Pick<Family, "defaults" | "multiples">,
): Promise<GenerationDefaults> {
  const { path } = file;
  let config: Config;
  try {
    config = await Config.read(file);
  } catch (error) {
    if (isNotFound(error)) return usual;
    throw error;
  }
  const unknown = config.keys().find((key) => !KEYS.includes(key));
  if (unknown !== undefined) {
    throw new TilereelError(`${path}: ${quotedValue(unknown)} is not known; the keys are ${KEYS.join(", ")}`);
  }
  const trained = readTrainedSizes(config.value("trained"), path, multiples);
  const defaults: GenerationDefaults = {
    width: config.integer("width", usual.width),
    height: config.integer("height", usual.height),
    frames: config.integer("frames", usual.frames),
    fps: config.number("fps", usual.fps, { positive: true }),
    steps: config.integer("steps", usual.steps, 1, MOST_STEPS),
    guidance: config.number("guidance", usual.guidance, { min: 0 }),
    ...usual.guidanceLow !== undefined && { guidanceLow: config.number("guidance_low", usual.guidanceLow, { min: 0 }) },
    textTokens: config.integer("text_tokens", usual.textTokens, 1, MOST_TEXT_TOKENS),
    ...trained && { trained },
  };
  checkClip(multiples, defaults, `${path}: `);
  return defaults;
}
