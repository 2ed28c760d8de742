import { createHash } from "node:crypto";
import { join } from "node:path";
import { ownHost, processName } from "../../gpu/native/processes.ts";
import { exists } from "../../model/files/file_error.ts";
import { writeAtomically } from "../../model/files/output.ts";
import { type Shard, wholeCommandLine } from "./shard.ts";

/** The folder, in that of the results, where each shard says how far it is. */
export const LOG_FOLDER = ".tilereel";
/** The version of the files. */
export const LOG_FORMAT = "tilereel shard 1";
/** Milliseconds between two signs of life. */
export const SIGN_OF_LIFE = 15_000;

/** All of the work as a shard. */
const WHOLE: Shard = { index: 1, count: 1 };

/** One thing that could not be made. */
export interface Failure {
  readonly name: string;
  /** One sentence. */
  readonly why: string;
}

/** What a shard is to do. */
export interface ShardWork {
  /** The folder of the results. */
  readonly folder: string;
  readonly shard: Shard;
  /** Everything that determines all of the work: it is the same for all shards, and another for other work. */
  readonly work: unknown;
  /** What it makes, as "clip". */
  readonly unit: string;
  /** How many of them it has to make, and how many all shards have. */
  readonly total: number;
  readonly all: number;
  /** The files, relative to the folder, if they are known. */
  readonly files?: readonly string[];
}

/** How far a shard is. Times are seconds since 1970. */
export interface ShardState extends Omit<ShardWork, "folder" | "work"> {
  readonly format: string;
  /** The digest of {@link ShardWork.work}. */
  readonly work: string;
  /** Of all of the work, without its shard. */
  readonly commandLine: string;
  /** See `processName`. */
  readonly process: string;
  /** The machine, in words. */
  readonly host: string;
  readonly pid: number;
  readonly started: number;
  /** What there was before, or was made by this process. */
  readonly done: number;
  /** What this process made, and the seconds that it took for it. */
  readonly made: number;
  readonly seconds: number;
  /** What it makes now, how much of that is done, from 0 to 1, and in how many seconds. */
  readonly current?: string;
  readonly fraction?: number;
  readonly elapsed?: number;
  readonly failed: readonly Failure[];
  /** When it came to its end. Without it, it runs or was broken off. */
  readonly ended?: number;
}

/** Says in a file of its own how far a shard is, for `tilereel status`. */
export class ShardLog implements AsyncDisposable {
  readonly #path: string;
  #state: ShardState;
  /** When the work on the current one began, as performance.now() has it. */
  #begun = performance.now();
  #isTimed = false;
  #writing = Promise.resolve();
  readonly #timer: ReturnType<typeof setInterval>;

  private constructor({ folder, work, ...known }: ShardWork, done: number) {
    const digest = createHash("sha256").update(JSON.stringify(work)).digest("hex").slice(0, 8);
    const { shard: { index, count } } = known;
    this.#path = join(folder, LOG_FOLDER, `${digest}-${index}-of-${count}.json`);
    this.#state = {
      ...{ format: LOG_FORMAT, ...known, work: digest, commandLine: wholeCommandLine() },
      ...{ process: processName(), host: ownHost(), pid: Deno.pid, started: now() },
      ...{ done, made: 0, seconds: 0, failed: [] },
    };
    this.#timer = setInterval(() => this.#write(), SIGN_OF_LIFE);
    this.#timer.unref();
  }

  /**
   * Begins a log. It replaces that of an earlier run of the shard.
   *
   * @param shard undefined for all of the work: this has a log only where shards have some, which say too little then
   * @param done what there is already
   * @returns undefined if there is none, or that of all of the work cannot be written
   * @throws {TilereelError} if that of a shard cannot be written
   */
  static async open(
    shard: Shard | undefined,
    work: Omit<ShardWork, "shard">,
    done: number,
  ): Promise<ShardLog | undefined> {
    if (!shard && !await exists(join(work.folder, LOG_FOLDER))) return undefined;
    const { index, count } = shard ?? WHOLE, log = new ShardLog({ ...work, shard: { index, count } }, done);
    try {
      await log.#save();
    } catch (error) {
      clearInterval(log.#timer);
      if (!shard) return undefined;
      throw error;
    }
    return log;
  }

  /** Of these it turned out that they are there. */
  found(done: number): void {
    this.#change({ done });
  }

  /** The work on one of them begins. */
  begin(current: string): void {
    this.#begun = performance.now();
    this.#isTimed = false;
    this.#state = { ...this.#state, current, fraction: 0 };
  }

  /** How much of the current one is done, from 0 to 1. Its time begins with the first call: before, models are loaded. */
  progress(fraction: number): void {
    if (this.#state.current === undefined) return;
    if (!this.#isTimed) this.#begun = performance.now();
    this.#isTimed = true;
    this.#state = { ...this.#state, fraction: Number(fraction.toFixed(3)) };
  }

  /** The current one is made. */
  made(): void {
    const { done, total, made, seconds } = this.#state, took = this.#elapsed();
    // What was found damaged is made again.
    this.#change({ done: Math.min(done + 1, total), made: made + 1, seconds: Number((seconds + took).toFixed(3)) });
  }

  /** The current one could not be made. */
  failed(failure: Failure): void {
    this.#change({ failed: [...this.#state.failed, failure] });
  }

  /** The shard has come to its end. */
  async end(): Promise<void> {
    this.#change({ ended: now() });
    await this.#writing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#writing;
  }

  /** Nothing is made for now. */
  #change(change: Partial<ShardState>): void {
    const { current: _, fraction: __, ...rest } = this.#state;
    this.#state = { ...rest, ...change };
    this.#begun = performance.now();
    this.#write();
  }

  /** Seconds of the work on the current one. */
  #elapsed(): number {
    return Number(((performance.now() - this.#begun) / 1000).toFixed(3));
  }

  /** Work goes on if the file cannot be written now: it only tells of the work. */
  #write(): void {
    this.#writing = this.#writing.then(() => this.#save()).catch(() => {});
  }

  async #save(): Promise<void> {
    const elapsed = this.#state.current === undefined ? {} : { elapsed: this.#elapsed() };
    const text = `${JSON.stringify({ ...this.#state, ...elapsed })}\n`;
    await writeAtomically(this.#path, (temporary) => Deno.writeTextFile(temporary, text));
  }
}

function now(): number {
  return Math.round(Date.now() / 1000);
}
