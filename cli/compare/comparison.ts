import { psnrOfError } from "../../model/video/quality.ts";
import { tableOf } from "./table.ts";

/** What was measured while a clip was made. */
export interface Figures {
  readonly steps: number;
  readonly guidance: number;
  readonly seconds: {
    /** All steps of the sampler. */
    readonly denoise: number;
    /** From the prompt to decoded frames. */
    readonly total: number;
  };
  /** The share of the pairs of queries and keys that were multiplied. */
  readonly density: number;
  /** The share of the transformer's blocks that were run. Default: 1, without a step cache */
  readonly blocks?: number;
  /** Where tiles are selected: the share of them that were not selected in the step before, see `MaskChurn`. */
  readonly churn?: number;
  /** For routed attention: [steps][layers], one digit per head: an index into `BRANCHES` of model/vorta. */
  readonly routes?: readonly (readonly string[])[];
  /** Of all steps, from 1000 at pure noise to 0. */
  readonly timesteps: readonly number[];
}

/** How similar a clip is to that of the first setting, measured on 8-bit samples. */
export interface Likeness {
  readonly meanSquaredError: number;
  readonly ssim: number;
  /** The change from frame to frame, over that of the other clip; 1 where that has one frame or does not change. */
  readonly flicker: number;
}

/** One prompt with one setting. File names are relative to the prompt's folder. */
export interface ClipRecord extends Figures, Likeness {
  readonly setting: string;
  readonly file: string;
  readonly poster: string;
}

/** One prompt with all settings. */
export interface ComparedPrompt {
  /** The folder of its files in that of the comparison. */
  readonly folder: string;
  readonly prompt: string;
  readonly seed: number;
  readonly width: number;
  readonly height: number;
  readonly frames: number;
  readonly fps: number;
  /** The file that shows the clips side by side, in the order of the settings. */
  readonly sideBySide: string;
  /** In the settings' order. */
  readonly clips: readonly ClipRecord[];
}

/** The result of a comparison, as the page shows it and in the layout of `table.json`. */
export interface Comparison {
  readonly version: string;
  /** When it was complete, in ISO 8601. */
  readonly date: string;
  readonly commandLine: string;
  readonly model: string;
  readonly adapter: string;
  readonly precision: string;
  /** In their order, as the user wrote them. */
  readonly settings: readonly { readonly name: string; readonly words: string }[];
  readonly prompts: readonly ComparedPrompt[];
}

/** The text of `table.json`. PSNR is null where clips are equal, because JSON has no infinity. */
export function toJson({ prompts, settings, ...about }: Comparison): string {
  const rows = tableOf(prompts).map(({ setting, psnr, ...row }, i) => ({
    setting,
    words: settings[i]!.words,
    ...row,
    psnr: finite(psnr),
  }));
  return `${JSON.stringify({ ...about, settings: rows, prompts: prompts.map(promptJson) }, null, 2)}\n`;
}

function promptJson({ folder, sideBySide, clips, ...prompt }: ComparedPrompt): unknown {
  return { ...prompt, sideBySide: `${folder}/${sideBySide}`, clips: clips.map((clip) => clipJson(folder, clip)) };
}

function clipJson(folder: string, { setting, file, poster: _, meanSquaredError, ...clip }: ClipRecord): unknown {
  return { setting, file: `${folder}/${file}`, ...clip, psnr: finite(psnrOfError(meanSquaredError)) };
}

function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
