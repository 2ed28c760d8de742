/**
 * What is known of clips, as the table and the page show it.
 *
 * @module
 */

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
  /** Pairs of queries and keys that were multiplied, of those of full attention. */
  readonly density: number;
  /** For routed attention: [steps][layers], a digit a head, an index into `BRANCHES` of model/vorta/branch.ts. */
  readonly routes?: readonly (readonly string[])[];
  /** Of all steps, from 1000 at pure noise to 0. */
  readonly timesteps: readonly number[];
}

/** How near a clip comes to the first setting's, of 8-bit samples. */
export interface Likeness {
  readonly meanSquaredError: number;
  readonly ssim: number;
}

/** One prompt under one setting. Files are named from the prompt's folder. */
export interface ClipRecord extends Figures, Likeness {
  readonly setting: string;
  readonly file: string;
  readonly poster: string;
}

/** One prompt under every setting. */
export interface PromptRecord {
  readonly prompt: string;
  readonly seed: number;
  readonly width: number;
  readonly height: number;
  readonly frames: number;
  readonly fps: number;
  /** The clips beside one another, in the settings' order. */
  readonly sideBySide: string;
  /** In the settings' order. */
  readonly clips: readonly ClipRecord[];
}
