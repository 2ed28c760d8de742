import { printable } from "../../gpu/common/errors.ts";
import { formatBytes } from "../../gpu/common/format_bytes.ts";
import type { GpuSettings } from "../../gpu/gpu.ts";
import { precisionName } from "../../gpu/precision.ts";
import type { AttentionReport } from "../../model/attention/report.ts";
import { formatDuration } from "../../tools/program/format_duration.ts";
import type { DifferentClip } from "./made_already.ts";
import type { ReadyClip } from "./plan.ts";
import type { RenderedClip, SparedShares } from "./render_clip.ts";

/** Files that a sentence names. */
const MOST_NAMED = 3;

/** A clip that could not be made. */
export interface FailedClip {
  readonly out: string;
  /** One sentence. */
  readonly why: string;
}

/** One sentence for each kind of difference of the clips that are kept. */
export function differentNotes(clips: readonly DifferentClip[]): string[] {
  return [...Map.groupBy(clips, ({ why, instead }) => `${instead === undefined} ${why}`).values()].map((group) => {
    const { why, instead } = group[0]!, names = group.slice(0, MOST_NAMED).map(({ out }) => out).join(", ");
    const files = group.length > MOST_NAMED ? `${names} and ${group.length - MOST_NAMED} more` : names;
    const [has, was, isLeft, it] = group.length === 1
      ? ["has", "was", "is left as it is", "it"]
      : ["have", "were", "are left as they are", "them"];
    const how = `${files} ${
      why.startsWith("no record") ? `${has} ${why}` : `${was} made with other settings (${why})`
    }`;
    return instead === undefined
      ? `${how} and ${isLeft}; --overwrite replaces ${it}`
      : `${how}, so this clip is written to ${instead}; --overwrite replaces the existing one instead`;
  });
}

/** `3 clips rendered, 1 made already, 1 failed` and one line for each failed clip. */
export function summaryLines(
  { rendered, made, different, failed }: {
    rendered: number;
    made: number;
    different: number;
    failed: readonly FailedClip[];
  },
): string {
  const parts = [
    `${counted(rendered)} rendered`,
    ...made > 0 ? [`${made} already made and skipped`] : [],
    ...different > 0 ? [`${different} left as ${different === 1 ? "it is" : "they are"}`] : [],
    ...failed.length > 0 ? [`${failed.length} failed:`] : [],
  ];
  return [parts.join(", "), ...failed.map(({ out, why }) => `  ${printable(out)}: ${why}`)].join("\n");
}

/** File, size and time; how it was sampled; and, if attention is sparse, its density. */
export function clipLines(
  { out, settings: { sigmas } }: ReadyClip,
  { record, bytes, seconds, report, spared }: RenderedClip,
  gpu: GpuSettings,
): string {
  const { width, height, frames, fps, steps, guidance, seed, scheduler, flowShift, latents, attention, cache } = record;
  const sampling = [
    latents === undefined ? `seed ${seed}` : `noise from ${printable(String(latents))}`,
    `${steps} ${steps === 1 ? "step" : "steps"}`,
    `guidance ${guidance}`,
    `${scheduler}`,
    ...sigmas === undefined ? [] : [`sigmas ${sigmas}`],
    `flow shift ${flowShift}`,
    `${precisionName(gpu)} (${gpu.precisionReason})`,
  ];
  const time = seconds < 10 ? `${seconds.toFixed(1)} s` : formatDuration(seconds);
  return [
    `${printable(out)}: ${width}x${height}, ${frames} ${frames === 1 ? "frame" : "frames"} at ${fps} fps, ` +
    `${formatBytes(bytes)}, in ${time}`,
    `  ${sampling.join(", ")}`,
    ...attention === "full" && !spared ? [] : [attentionLine(String(attention), report)],
    ...spared ? [cacheLine(String(cache), spared)] : [],
  ].join("\n");
}

function cacheLine(kind: string, { passes, blocks, attentions }: SparedShares): string {
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  const spared = [
    ...passes > 0 ? [`${percent(passes)} of the passes`] : [],
    ...blocks > 0 ? [`${percent(blocks)} of the blocks`] : [],
    ...attentions > 0 ? [`${attentions} attention outputs, which it used again`] : [],
  ];
  return `  cache: ${kind}, skipped ${spared.join(" and ") || "nothing"}`;
}

function attentionLine(kind: string, { density, dense, whyFull }: AttentionReport): string {
  const counted = (count: number, what: string) => `${count} dense ${what}${count === 1 ? "" : "s"}`;
  const included = dense ? `, ${counted(dense.steps, "step")} and ${counted(dense.layers, "layer")} included` : "";
  const why = whyFull === undefined ? included : `: ${whyFull}`;
  return `  attention: ${kind}, ${(100 * density).toFixed(1)} % of the pairs of full attention${why}`;
}

/** The message when a signal ends the run. */
export function brokenOff(done: number, all: number, goOn: string): string {
  return `Stopped: ${done} of ${counted(all)} ${done === 1 ? "is" : "are"} done. ${goOn}`;
}

function counted(clips: number): string {
  return `${clips} ${clips === 1 ? "clip" : "clips"}`;
}
