import { TilereelError } from "../../gpu/common/errors.ts";
import type { Precision } from "../../gpu/precision.ts";
import { checkPlace, type Clip, isMade } from "./clip_plan.ts";
import { readRecord } from "../../model/video/record.ts";
import type { ClipRecord } from "../../model/video/record_text.ts";
import { differences } from "./clip_record.ts";
import { checkReplaceable } from "./replace.ts";

/** A clip with its future record, as far as it is known. */
export interface PlannedClip extends Clip {
  readonly record: ClipRecord;
}

/** An existing clip that is kept. */
export interface KeptClip extends PlannedClip {
  /** The content of the file. */
  readonly found: ClipRecord | undefined;
}

/** An existing clip that was made with other settings. */
export interface DifferentClip extends KeptClip {
  /** The differences, in words. */
  readonly why: string;
  /** Where the new clip is written instead, if it is. */
  readonly instead?: string;
}

/** Planned clips, sorted into those to render and those to leave. */
export interface SortedClips {
  readonly todo: readonly (PlannedClip & { readonly replaces: boolean })[];
  /** Made with the same settings. */
  readonly made: readonly KeptClip[];
  readonly different: readonly DifferentClip[];
}

/**
 * Sorts clips by the files that exist already, made with the same settings or with others.
 *
 * @param overwrite whether clips that were made with other settings are made again
 * @param precision that clips would be made in; it is only asked if nothing else differs
 * @throws {TilereelError} if one that is to be made cannot be written
 */
export async function sortClips(
  clips: readonly PlannedClip[],
  overwrite: boolean,
  precision: () => Promise<Precision>,
): Promise<SortedClips> {
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
      const kept = isThere ? await compared(at, precision) : undefined;
      const isDone = kept && !("why" in kept);
      if (isDone) sorted.made.push(kept);
      else if (!kept || overwrite) {
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

async function compared(clip: PlannedClip, precision: () => Promise<Precision>): Promise<KeptClip | DifferentClip> {
  const found = await recordAt(clip.out);
  if (!found) return { ...clip, found, why: "no record of how it was made" };
  // Only the GPU can tell the precision.
  const { precision: before, ...rest } = found;
  const why = differences(rest, clip.record) ??
    differences({ ...found, precision: before }, { ...clip.record, precision: await precision() });
  return why === undefined ? { ...clip, found } : { ...clip, found, why };
}

/** A file that is not a clip has no record. */
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
