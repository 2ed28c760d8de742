/**
 * The data of clips that the table and the page show.
 *
 * @module
 */

/** The measurements of a clip. */
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
  /** For routed attention: [steps][layers], one digit per head: an index into `BRANCHES` of model/vorta. */
  readonly routes?: readonly (readonly string[])[];
  /** Of all steps, from 1000 at pure noise to 0. */
  readonly timesteps: readonly number[];
}

/** How similar a clip is to that of the first setting, measured on 8-bit samples. */
export interface Likeness {
  readonly meanSquaredError: number;
  readonly ssim: number;
}

/** One prompt with one setting. File names are relative to the prompt's folder. */
export interface ClipRecord extends Figures, Likeness {
  readonly setting: string;
  readonly file: string;
  readonly poster: string;
}

/** One prompt with all settings. */
export interface PromptRecord {
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
