import { join } from "node:path";
import { isRunning } from "../../gpu/native/processes.ts";
import { parseJson } from "../../model/checkpoint/parse_json.ts";
import { fileError, isNotFound, systemReason } from "../../model/files/file_error.ts";
import { isShard } from "../shards/shard.ts";
import { type Failure, LOG_FOLDER, LOG_FORMAT, type ShardState, SIGN_OF_LIFE } from "../shards/shard_log.ts";

/** The most bytes of a log: the names of 100,000 files and what failed of them. */
const LONGEST_LOG = 64 * 2 ** 20;
/** Milliseconds without a sign of life after which a process elsewhere counts as dead. */
const SILENT = 8 * SIGN_OF_LIFE;
/** The part of a first clip that tells how long it takes. */
const TELLING = 0.1;

/**
 * What became of a shard: "stopped" was broken off, or its files were removed; "failed" came to its end, but some could
 * not be made; "waiting" has not begun.
 */
export type ShardStatus = "done" | "running" | "failed" | "stopped" | "waiting";

/** One shard, as `status` shows it. */
export interface ShardReport {
  readonly index: number;
  readonly status: ShardStatus;
  /** What it has to make, and what of that there is; undefined if it has not begun. */
  readonly total?: number;
  readonly done?: number;
  readonly failed: readonly Failure[];
  readonly current?: string;
  readonly fraction?: number;
  /** Until it is done, if it runs and has made something. */
  readonly secondsLeft?: number;
  readonly host?: string;
  readonly pid?: number;
  /** Seconds since 1970: when it began, gave its last sign of life, and came to its end. */
  readonly started?: number;
  readonly updated?: number;
  readonly ended?: number;
}

/** The shards of one work. */
export interface WorkReport {
  /** Of all of the work. */
  readonly commandLine: string;
  /** What is made, as "clip". */
  readonly unit: string;
  readonly total: number;
  readonly done: number;
  readonly failed: number;
  /** Until the shards that run are done. */
  readonly secondsLeft?: number;
  /** One for each number, in order. */
  readonly shards: readonly ShardReport[];
}

/** A log, and when it was written, in milliseconds since 1970. */
interface FoundLog {
  readonly state: ShardState;
  readonly updated: number;
}

/**
 * The works whose shards have logs in a folder; the last is the newest. Of one work that was shared among different
 * numbers of shards, the newest counts.
 *
 * @param now in milliseconds since 1970
 * @throws {TilereelError} if the folder cannot be read
 */
export async function readShards(folder: string, now = Date.now()): Promise<WorkReport[]> {
  const logs = (await readLogs(join(folder, LOG_FOLDER))).sort((a, b) => a.updated - b.updated);
  const newest = new Map(logs.map(({ state }) => [state.work, state.shard.count]));
  const works = Map.groupBy(
    logs.filter(({ state }) => newest.get(state.work) === state.shard.count),
    ({ state }) => state.work,
  );
  const ordered = [...works.values()].sort((a, b) => a.at(-1)!.updated - b.at(-1)!.updated);
  return await Promise.all(ordered.map((logs) => reportWork(folder, logs, now)));
}

async function reportWork(folder: string, logs: readonly FoundLog[], now: number): Promise<WorkReport> {
  const { state: { shard: { count }, all: total, unit, commandLine } } = logs.at(-1)!;
  const begun = await Promise.all(logs.map((log) => reportShard(folder, log, now)));
  const shards = Array.from(
    { length: count },
    (_, i): ShardReport =>
      begun.find(({ index }) => index === i + 1) ?? { index: i + 1, status: "waiting", failed: [] },
  );
  const left = shards.flatMap(({ secondsLeft }) => secondsLeft ?? []);
  return {
    ...{ commandLine, unit, total },
    done: shards.reduce((sum, { done = 0 }) => sum + done, 0),
    failed: shards.reduce((sum, { failed }) => sum + failed.length, 0),
    ...left.length > 0 && { secondsLeft: Math.max(...left) },
    shards,
  };
}

async function reportShard(folder: string, { state, updated }: FoundLog, now: number): Promise<ShardReport> {
  const { shard: { index }, total, files, host, pid, started, ended, made, seconds } = state;
  const { current, fraction = 0, elapsed = 0 } = state;
  // A clip may have been made by an earlier run or removed since.
  const there = files &&
    new Set(await Array.fromAsync(files, async (name) => await isThere(join(folder, name)) && name));
  const done = files ? files.filter((name) => there!.has(name)).length : state.done;
  const failed = state.failed.filter(({ name }) => !there?.has(name));
  const isAlive = ended === undefined && (isRunning(state.process) ?? now - updated < SILENT);
  const status: ShardStatus = isAlive
    ? "running"
    : done + failed.length < total || ended === undefined
    ? done === total ? "done" : "stopped"
    : failed.length > 0
    ? "failed"
    : "done";
  // Of the first one, a part tells.
  const each = made > 0 ? seconds / made : fraction >= TELLING ? elapsed / fraction : undefined;
  const left = each === undefined ? undefined : (total - done - failed.length - fraction) * each;
  return {
    ...{ index, status, total, done, failed },
    ...isAlive && current !== undefined && { current, fraction },
    ...isAlive && left !== undefined && { secondsLeft: Math.max(0, Math.round(left)) },
    ...{ host, pid, started, updated: Math.round(updated / 1000) },
    ...ended !== undefined && { ended },
  };
}

/** Whether a clip was made, as a file or as a folder of frames. What cannot be looked at is not there. */
async function isThere(path: string): Promise<boolean> {
  try {
    const { isDirectory, size } = await Deno.stat(path);
    if (!isDirectory) return size > 0;
    for await (const _ of Deno.readDir(path)) return true;
  } catch (error) {
    if (systemReason(error) === undefined) throw error;
  }
  return false;
}

async function readLogs(folder: string): Promise<FoundLog[]> {
  const found: FoundLog[] = [];
  try {
    for await (const { name } of Deno.readDir(folder)) {
      if (name.startsWith(".") || !name.endsWith(".json")) continue;
      const log = await readLog(join(folder, name));
      if (log) found.push(log);
    }
  } catch (error) {
    if (!isNotFound(error)) throw fileError(folder, "read", error);
  }
  return found;
}

/** Undefined if it is none. */
async function readLog(path: string): Promise<FoundLog | undefined> {
  const { size, mtime } = await Deno.stat(path);
  if (size > LONGEST_LOG) return undefined;
  try {
    const state = parseJson(await Deno.readTextFile(path));
    return isState(state) ? { state, updated: mtime?.getTime() ?? 0 } : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function isState(value: unknown): value is ShardState {
  // Without a rest: of a long text, this would be a property for each character.
  const state = (value ?? {}) as Partial<ShardState>;
  const { format, shard, work, unit, total, all, files, failed, commandLine, process, host } = state;
  const { pid, started, done, made, seconds, current = "", fraction = 0, elapsed = 0, ended = 0 } = state;
  const numbers = [shard?.index, shard?.count, total, all, pid, started, done, made, seconds, fraction, elapsed, ended];
  const areNumbers = numbers.every(Number.isFinite);
  return format === LOG_FORMAT && areNumbers && [work, unit, commandLine, process, host, current].every(isText) &&
    isShard(shard!) &&
    (files === undefined || Array.isArray(files) && files.every(isText)) &&
    Array.isArray(failed) && failed.every((failure) => isText(failure?.name) && isText(failure?.why));
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}
