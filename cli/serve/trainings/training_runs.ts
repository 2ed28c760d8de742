import { createHash } from "node:crypto";
import { basename, join, resolve } from "node:path";
import { median } from "../../../model/estimate/calibration.ts";
import { trainingFiles } from "../../../model/training/training_folder.ts";
import { type Figures, LogReader } from "./log_reader.ts";

/** A training whose log was found. */
export interface TrainingRun {
  readonly id: string;
  /** Its folder, as the user would name it. */
  readonly name: string;
  readonly log: string;
}

/** How deep the folders of trainings lie in those that are named, and how many folders are looked at. */
const DEEPEST = 2, MOST_FOLDERS = 1000;
/** Bytes of the end of a log that say how far a training is. */
const END = 2 ** 16;
/** Steps that the time of a step is taken from. */
const TIMED = 20;
/** A training whose log was not written for as many steps, and for as many ms, does not run. */
const SILENT_STEPS = 10, SILENT_MS = 60_000;

/** The trainings in some folders, or folders in them. Links are not followed. */
export class TrainingRuns {
  constructor(private readonly folders: readonly string[]) {}

  async list(): Promise<TrainingRun[]> {
    const found = new Map<string, TrainingRun>();
    let left = MOST_FOLDERS;
    const look = async (folder: string, depth: number): Promise<void> => {
      if (left-- <= 0) return;
      // A folder may be gone, or not ours to read.
      const entries = await Array.fromAsync(Deno.readDir(folder)).catch(() => []), { log } = trainingFiles(folder, "");
      if (entries.some(({ name, isFile }) => isFile && name === basename(log))) {
        const id = `training_${createHash("sha256").update(resolve(folder)).digest("hex").slice(0, 16)}`;
        found.set(id, { id, name: folder, log });
      }
      if (depth === DEEPEST) return;
      for (const { name, isDirectory } of entries) {
        if (isDirectory && !name.startsWith(".")) await look(join(folder, name), depth + 1);
      }
    };
    for (const folder of this.folders) await look(folder, 0);
    return [...found.values()];
  }

  /** The training with an id: nothing of it is used as a path. */
  async find(id: string): Promise<TrainingRun | undefined> {
    return (await this.list()).find((run) => run.id === id);
  }
}

/** A training as the API has it; undefined if its log is gone. */
export async function trainingObject({ id, name, log }: TrainingRun) {
  const news = await new LogReader(log, END).read();
  if (!news) return undefined;
  const last = news.steps.at(-1), step = last?.step ?? 0, steps = last?.steps ?? null, each = secondsOfStep(news.steps);
  const silent = Date.now() - news.written, isDone = steps !== null && step >= steps;
  const runs = silent < Math.max(SILENT_MS, SILENT_STEPS * 1000 * (each ?? 0));
  const state = isDone ? "done" : runs ? "running" : "stopped";
  return {
    ...{ id, object: "training", name, updated_at: Math.floor(news.written / 1000), state, step, steps },
    seconds_left: state === "running" && steps !== null && each !== undefined ? (steps - step) * each : null,
  };
}

/** The median of the last steps: one may have compiled kernels, or made samples. */
function secondsOfStep(steps: readonly Figures[]): number | undefined {
  const seconds = steps.slice(-TIMED).flatMap(({ seconds }) => seconds ?? []);
  return seconds.length > 0 ? median(seconds) : undefined;
}
