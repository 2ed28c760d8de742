/**
 * The result of a comparison, as the page and `table.json` show it.
 *
 * @module
 */
import { psnrOfError } from "../../model/video/quality.ts";
import type { ClipRecord, PromptRecord } from "./record.ts";
import { tableOf } from "./table.ts";

/** A prompt's record and the name of its folder. */
export interface ComparedPrompt extends PromptRecord {
  readonly folder: string;
}

/** The result of a comparison, in the layout of `table.json`. */
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
