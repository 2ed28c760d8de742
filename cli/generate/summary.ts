/**
 * Messages about the clips of a run, before and after it.
 *
 * @module
 */
import { printable } from "../../gpu/common/errors.ts";
import type { DifferentClip } from "./made_already.ts";

/** Files that a sentence names. */
const MOST_NAMED = 3;

/** A clip that could not be made. */
export interface FailedClip {
  readonly out: string;
  /** One sentence. */
  readonly why: string;
}

/** The results of a run. */
export interface Outcome {
  readonly rendered: number;
  readonly made: number;
  readonly different: number;
  readonly failed: readonly FailedClip[];
}

/** One sentence for each kind of difference of the clips that are kept. */
export function differentNotes(clips: readonly DifferentClip[]): string[] {
  return [...Map.groupBy(clips, ({ why, instead }) => `${instead === undefined} ${why}`).values()].map((group) => {
    const { why, instead } = group[0]!, names = group.slice(0, MOST_NAMED).map(({ out }) => out).join(", ");
    const files = group.length > MOST_NAMED ? `${names} and ${group.length - MOST_NAMED} more` : names;
    const were = group.length === 1 ? "was" : "were";
    const how = why.startsWith("no record")
      ? `${files} ${group.length === 1 ? "has" : "have"} ${why}`
      : `${files} ${were} made with other settings (${why})`;
    return instead === undefined
      ? `${how} and ${group.length === 1 ? "is" : "are"} left as ${group.length === 1 ? "it is" : "they are"}; ` +
        `--overwrite replaces ${group.length === 1 ? "it" : "them"}`
      : `${how}, so this clip is written to ${instead}; --overwrite replaces the existing one instead`;
  });
}

/** `3 clips rendered, 1 made already, 1 failed` and one line for each failed clip. */
export function summaryLines({ rendered, made, different, failed }: Outcome): string {
  const parts = [
    `${counted(rendered)} rendered`,
    ...made > 0 ? [`${made} already made and skipped`] : [],
    ...different > 0 ? [`${different} left as ${different === 1 ? "it is" : "they are"}`] : [],
    ...failed.length > 0 ? [`${failed.length} failed:`] : [],
  ];
  return [parts.join(", "), ...failed.map(({ out, why }) => `  ${printable(out)}: ${why}`)].join("\n");
}

/** The message when a signal ends the run. */
export function brokenOff(done: number, all: number, goOn: string): string {
  return `Stopped: ${done} of ${counted(all)} ${done === 1 ? "is" : "are"} done. ${goOn}`;
}

function counted(clips: number): string {
  return `${clips} ${clips === 1 ? "clip" : "clips"}`;
}
