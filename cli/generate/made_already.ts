/**
 * Which clips are there already: made with the same settings, or otherwise.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import type { Precision } from "../../gpu/precision.ts";
import { checkPlace, type Clip, isMade } from "./clip_plan.ts";
import { type ClipRecord, readRecord } from "../../model/video/record.ts";
import { differences } from "./clip_record.ts";
import { checkReplaceable } from "./replace.ts";

/** A clip with what its record will say, as far as that is known. */
export interface PlannedClip extends Clip {
  readonly record: ClipRecord;
}

/** A clip that is there and is left as it is. */
export interface KeptClip extends PlannedClip {
  /** What the file says. */
  readonly found: ClipRecord | undefined;
}

/** A clip that was made otherwise. */
export interface DifferentClip extends KeptClip {
  /** What was otherwise, in words. */
  readonly why: string;
  /** Where the new one goes instead, if anywhere. */
  readonly instead?: string;
}

/** Planned clips, sorted into those to render and those to leave. */
export interface SortedClips {
  readonly todo: readonly (PlannedClip & { readonly replaces: boolean })[];
  /** Made with the same settings. */
  readonly made: readonly KeptClip[];
  readonly different: readonly DifferentClip[];
}

/** What decides whether clips are made. */
export interface SortOptions {
  /** Clips that were made otherwise are made anew. */
  readonly overwrite: boolean;
  /** The precision that clips would be made in; asked only where nothing else is different. */
  readonly precision: () => Promise<Precision>;
}

/**
 * Sorts clips by the files that exist.
 *
 * @throws {TilereelError} if one that is to be made cannot be written
 */
export async function sortClips(clips: readonly PlannedClip[], options: SortOptions): Promise<SortedClips> {
  const sorted = {
    todo: [] as SortedClips["todo"][number][],
    made: [] as KeptClip[],
    different: [] as DifferentClip[],
  };
  for (const clip of clips) {
    if (clip.taken === "replace") {
      sorted.todo.push({ ...clip, replaces: await isMade(clip.out) });
      continue;
    }
    let place = clip.out, first: DifferentClip | undefined;
    for (let number = 2;; number++) {
      const at = { ...clip, out: place }, isThere = await isMade(place);
      const kept = isThere ? await compared(at, options) : undefined;
      const isDone = kept && !("why" in kept);
      if (isDone) sorted.made.push(kept);
      else if (!kept || options.overwrite) {
        if (isThere) await checkReplaceable(place);
        else await checkPlace(place);
        sorted.todo.push({ ...at, replaces: isThere });
        if (first) sorted.different.push({ ...first, instead: place });
      } else if (clip.taken === "keep") sorted.different.push(kept as DifferentClip);
      else {
        first ??= kept as DifferentClip;
        place = numbered(clip.out, number);
        continue;
      }
      break;
    }
  }
  return sorted;
}

async function compared(clip: PlannedClip, { precision }: SortOptions): Promise<KeptClip | DifferentClip> {
  const found = await recordAt(clip.out);
  if (!found) return { ...clip, found, why: "no record of how it was made" };
  // Which precision it would be takes a GPU to tell.
  const { precision: before, ...rest } = found;
  const why = differences(rest, clip.record) ??
    differences({ ...found, precision: before }, { ...clip.record, precision: await precision() });
  return why === undefined ? { ...clip, found } : { ...clip, found, why };
}

/** What is no clip has no record either. */
async function recordAt(path: string): Promise<ClipRecord | undefined> {
  try {
    return await readRecord(path);
  } catch (error) {
    if (error instanceof TilereelError) return undefined;
    throw error;
  }
}

function numbered(out: string, number: number): string {
  const [, stem, ending] = /^(.*?)(\.[^.\\/]*|[\\/])$/s.exec(out)!;
  return `${stem}-${number}${ending}`;
}
