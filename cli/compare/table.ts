import { psnrOfError } from "../../model/video/quality.ts";
import { textTable } from "../../tools/program/text_table.ts";
import type { ClipRecord, ComparedPrompt } from "./comparison.ts";

/** One setting over all prompts: a row of the comparison's table. */
export interface Row {
  readonly setting: string;
  /** Means over the clips. */
  readonly seconds: ClipRecord["seconds"];
  /** The denoising time of the first setting divided by that of this setting. */
  readonly speedup: number;
  /** Mean over the clips. */
  readonly density: number;
  /** Mean over the clips of the share of blocks that were run. */
  readonly blocks: number;
  /** In dB, of the mean squared error to the clips of the first setting over all clips; infinite if they are equal. */
  readonly psnr: number;
  /** The mean over the clips, compared with those of the first setting. */
  readonly ssim: number;
  /** Mean over the clips of the change from frame to frame, over that of the clips of the first setting. */
  readonly flicker: number;
  /** Mean over the clips; undefined where no tiles are selected. */
  readonly churn?: number;
}

/** The titles of the columns after the name of the setting. */
export const COLUMNS = [
  "denoising",
  "total",
  "speed",
  "density",
  "blocks",
  "PSNR",
  "SSIM",
  "flicker",
  "churn",
] as const;

/** One row per setting, in the order of the settings. */
export function tableOf(records: readonly ComparedPrompt[]): Row[] {
  const denoise = (setting: number) => mean(records.map((record) => record.clips[setting]!.seconds.denoise));
  return records[0]!.clips.map(({ setting }, i) => {
    const clips = records.map((record) => record.clips[i]!);
    return {
      setting,
      seconds: { denoise: denoise(i), total: mean(clips.map((clip) => clip.seconds.total)) },
      speedup: denoise(0) / denoise(i),
      density: mean(clips.map((clip) => clip.density)),
      blocks: mean(clips.map(({ blocks = 1 }) => blocks)),
      psnr: psnrOfError(mean(clips.map((clip) => clip.meanSquaredError))),
      ssim: mean(clips.map((clip) => clip.ssim)),
      flicker: mean(clips.map((clip) => clip.flicker)),
      ...clips.every(({ churn }) => churn !== undefined) && { churn: mean(clips.map(({ churn }) => churn!)) },
    };
  });
}

/** The figures of a row as text, in the order of {@link COLUMNS}. The reference is not compared with itself. */
export function cells(row: Row, isReference: boolean): string[] {
  return [
    formatSeconds(row.seconds.denoise),
    formatSeconds(row.seconds.total),
    `${row.speedup.toFixed(2)}×`,
    ...[row.density, row.blocks].map((share) => `${(100 * share).toFixed(1)} %`),
    ...isReference ? ["–", "–", "–"] : [formatPsnr(row.psnr), row.ssim.toFixed(4), row.flicker.toFixed(3)],
    row.churn === undefined ? "–" : `${(100 * row.churn).toFixed(1)} %`,
  ];
}

/** The table as lines of text. */
export function printedTable(rows: readonly Row[]): string {
  return textTable([["setting", ...COLUMNS], ...rows.map((row, i) => [row.setting, ...cells(row, i === 0)])], 1);
}

/** `31.2 dB`, or `equal` where no sample differs. */
export function formatPsnr(psnr: number): string {
  return psnr === Infinity ? "equal" : `${psnr.toFixed(1)} dB`;
}

/** `0.52 s`, `7.3 s`, `125 s`. */
export function formatSeconds(seconds: number): string {
  return `${seconds.toFixed(seconds < 1 ? 2 : seconds < 100 ? 1 : 0)} s`;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
