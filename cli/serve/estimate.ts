import type { GpuFacts } from "../../gpu/device/dry.ts";
import { fittedSeconds, median, type TimedClip } from "../../model/estimate/calibration.ts";
import { workOf } from "../../model/estimate/work_of.ts";
import type { ClipRecord } from "../../model/video/record_text.ts";
import type { PlanningModel } from "../generate/plan.ts";
import { newId } from "./job.ts";
import { readBody, readClip } from "./read_request.ts";
import type { VideoRoutes } from "./videos.ts";

/** The newest clips that times are reckoned from. A machine that was busy once is forgotten. */
const MOST_CLIPS = 60, MOST_EQUAL = 5;

/** What a clip would cost. What is not known is null. */
export interface Estimate {
  /** Of a pass, along frames, rows and columns. */
  readonly grid: readonly number[];
  readonly tokens: number;
  /** The share of full attention's pairs of queries and keys. */
  readonly density: number | null;
  /** Bytes of GPU memory at the highest peak, with the weights. */
  readonly memory: number | null;
  /** Why it does not fit the GPU. */
  readonly obstacle: string | null;
  readonly seconds: number | null;
  /** Where the seconds come from: equal clips that were made here, other clips, or what is known of the GPU. */
  readonly from: "equal" | "clips" | "gpu" | null;
  /** How many clips they come from. */
  readonly clips: number;
  readonly adapter: string | null;
  readonly precision: string | null;
}

/** A clip that was made on this adapter with this model. */
interface Made {
  readonly record: ClipRecord;
  readonly seconds: number;
}

/** What a clip costs: POST a request as for a video. */
export function estimateRoute(
  { store, queue, side, planning, served, checkSize }: VideoRoutes,
): (request: Request) => Promise<Response> {
  return async (request) => {
    const clip = readClip(await readBody(request), served, store.clipPath(newId())),
      { settings, record } = await planning.ready(clip, { pictures: false });
    checkSize(settings);
    const { grid } = planning.model.layout(settings), gpu = await queue.gpu;
    const { density: computed, memory = null, obstacle = null, seconds } = gpu ? await side.cost({ gpu, clip }) : {};
    const made = store.all.flatMap(({ record, seconds }): Made[] =>
      record && seconds !== undefined ? [{ record: record as ClipRecord, seconds }] : []
    ).filter((made) => isComparable(made, record, gpu)).slice(-MOST_CLIPS);
    const key = timeKey(record), equal = made.filter((made) => timeKey(made.record) === key).slice(-MOST_EQUAL);
    const density = computed ?? numberOf(equal.at(-1)?.record.density) ?? null;
    const time = timeOf(planning, settings, { equal, made, density, cached: record.cache !== undefined, seconds });
    return Response.json(
      {
        ...{ grid, tokens: grid.reduce((all, side) => all * side), density, memory, obstacle, ...time },
        ...{ adapter: gpu?.settings.description.name ?? null, precision: gpu?.settings.precision ?? null },
      } satisfies Estimate,
    );
  };
}

/** The seconds, from what is closest to the clip. */
function timeOf(
  { model }: PlanningModel,
  settings: Parameters<typeof workOf>[1],
  { equal, made, density, cached, seconds }: {
    readonly equal: readonly Made[];
    readonly made: readonly Made[];
    readonly density: number | null;
    /** Whether a step cache leaves out work that only the clip itself can tell. */
    readonly cached: boolean;
    /** By what is known of the GPU. */
    readonly seconds: number | undefined;
  },
): Pick<Estimate, "seconds" | "from" | "clips"> {
  if (equal.length > 0) {
    return { seconds: median(equal.map(({ seconds }) => seconds)), from: "equal", clips: equal.length };
  }
  if (cached || density === null) return { seconds: null, from: null, clips: 0 };
  const timed = made.filter(({ record: { cache } }) => cache === undefined).map(({ record, seconds }): TimedClip => ({
    work: workOf(model, record as unknown as typeof settings, numberOf(record.density) ?? 1),
    seconds,
  }));
  if (timed.length > 0) {
    return { seconds: fittedSeconds(timed)(workOf(model, settings, density)), from: "clips", clips: timed.length };
  }
  return seconds === undefined ? { seconds: null, from: null, clips: 0 } : { seconds, from: "gpu", clips: 0 };
}

/** Whether a clip's time says something of another's here. */
function isComparable({ record }: Made, { modelDigest }: ClipRecord, gpu: GpuFacts | undefined): boolean {
  return record.modelDigest === modelDigest &&
    (!gpu || record.adapter === gpu.settings.description.name && record.source === gpu.settings.description.source);
}

/** Keys of a record that a clip's time does not depend on. */
const TIMELESS = [
  "version",
  "prompt",
  "negativePrompt",
  "seed",
  "quality",
  "image",
  "imageDigest",
  "lastImage",
  "lastImageDigest",
  "adapter",
  "source",
  "precision",
  "density",
];

/** Equal for clips that take the same time on one adapter. */
function timeKey(record: ClipRecord): string {
  return JSON.stringify(Object.entries(record).filter(([key]) => !TIMELESS.includes(key)).sort());
}

function numberOf(value: unknown): number | undefined {
  return typeof value === "number" ? value : undefined;
}
