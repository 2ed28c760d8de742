/**
 * The lines that are printed for a finished clip.
 *
 * @module
 */
import { printable } from "../../gpu/common/errors.ts";
import { formatBytes } from "../../gpu/common/format_bytes.ts";
import type { GpuSettings } from "../../gpu/gpu.ts";
import type { AttentionReport } from "../../model/attention/report.ts";
import type { Sigmas } from "../../model/schedulers/sigmas.ts";
import { formatDuration } from "../../tools/program/progress.ts";
import type { ClipRecord } from "../../model/video/record_text.ts";

/** The information about a clip. */
export interface MadeClip {
  readonly file: string;
  readonly record: ClipRecord;
  /** The requested settings. */
  readonly sigmas: Sigmas | undefined;
  readonly bytes: number;
  readonly seconds: number;
  readonly report: AttentionReport;
  readonly gpu: GpuSettings;
}

/** File, size and time; how it was sampled; and, if attention is sparse, its density. */
export function clipLines({ file, record, sigmas, bytes, seconds, report, gpu }: MadeClip): string {
  const { width, height, frames, fps, steps, guidance, seed, scheduler, flowShift, latents, attention } = record;
  const sampling = [
    latents === undefined ? `seed ${seed}` : `noise from ${printable(String(latents))}`,
    `${steps} ${steps === 1 ? "step" : "steps"}`,
    `guidance ${guidance}`,
    `${scheduler}`,
    ...sigmas === undefined ? [] : [`sigmas ${sigmas}`],
    `flow shift ${flowShift}`,
    `${gpu.precision} (${gpu.precisionReason})`,
  ];
  const time = seconds < 10 ? `${seconds.toFixed(1)} s` : formatDuration(seconds);
  return [
    `${printable(file)}: ${width}x${height}, ${frames} ${frames === 1 ? "frame" : "frames"} at ${fps} fps, ` +
    `${formatBytes(bytes)}, in ${time}`,
    `  ${sampling.join(", ")}`,
    ...attention === "full" ? [] : [attentionLine(String(attention), report)],
  ].join("\n");
}

function attentionLine(kind: string, { density, whyFull }: AttentionReport): string {
  const why = whyFull === undefined ? "" : `: ${whyFull}`;
  return `  attention: ${kind}, ${(100 * density).toFixed(1)} % of the pairs of full attention${why}`;
}
