/**
 * How models and LoRAs that were trained for few steps are sampled.
 *
 * @module
 */
import type { SchedulerKind } from "./config.ts";

/** The settings of a preset, by the names of `GenerateOptions`. */
export interface Preset {
  /** What it is for, for the help of an option. */
  readonly what: string;
  /** Before the flow shift. There are as many steps. */
  readonly sigmas: readonly number[];
  readonly scheduler: SchedulerKind;
  readonly flowShift: number;
  readonly guidance: number;
  /** Whether it is for the LoRA that the model's own folder has. */
  readonly ownLora?: boolean;
}

/** 1 − i / n */
const even = (steps: number) => Array.from({ length: steps }, (_, i) => 1 - i / steps);

/** The presets by their names. */
export const PRESETS = {
  lightx2v: {
    what: "the 4-step models and LoRAs of lightx2v for Wan 2.1 (timesteps 1000, 937.5, 833.3, 625)",
    ...{ sigmas: even(4), scheduler: "lcm", flowShift: 5, guidance: 1 },
  },
  "lightx2v-wan2.2": {
    what: "the same for Wan 2.2",
    ...{ sigmas: even(4), scheduler: "euler", flowShift: 5, guidance: 1 },
  },
  fastwan: {
    what: "FastWan, 3 steps (timesteps 1000, 757, 522)",
    ...{ sigmas: [1, 0.28, 0.12], scheduler: "dmd", flowShift: 8, guidance: 1 },
  },
  fasthunyuan: {
    what: "FastHunyuan, 6 steps",
    ...{ sigmas: even(6), scheduler: "euler", flowShift: 17, guidance: 6 },
  },
  demo: {
    what: "the 4-step LoRA of the demo model, which is loaded with it unless --lora names others",
    ...{ sigmas: even(4), scheduler: "euler", flowShift: 3, guidance: 1, ownLora: true },
  },
} as const satisfies Readonly<Record<string, Preset>>;

/** The names of {@link PRESETS}. */
export const PRESET_NAMES = Object.keys(PRESETS) as readonly (keyof typeof PRESETS)[];
