import { cut, printable } from "../../gpu/common/errors.ts";
import type { GpuFacts } from "../../gpu/device/dry.ts";
import type { MemoryUse } from "../../gpu/memory.ts";
import { workerUrl } from "../../model/embedded.ts";
import type { Progress } from "../../model/progress.ts";
import { removeUnfinishedClip } from "../generate/unfinished.ts";
import { hasEnded, type Job } from "./job.ts";
import type { JobStore } from "./job_store.ts";
import type { FromWorker, ToWorker } from "./messages.ts";

/** What is known of a running job beside its state. */
export interface Running {
  /** From 0 to 1. */
  readonly overall: number;
  readonly progress?: Progress;
  /** A contact sheet of the clip so far: a PNG. */
  readonly preview?: Uint8Array<ArrayBuffer>;
}

/** Told of every change of a job; without it when it is deleted. */
export type Listener = (id: string, job: Job | undefined) => void;

const NOT_BEGUN: Running = { overall: 0 };

/** Makes the clips of the queue, one after the other, with one worker. If that crashes, the next clip gets a new one. */
export class Queue implements Disposable {
  #worker: Worker | undefined;
  readonly #listeners = new Set<Listener>();
  readonly #gpu = Promise.withResolvers<GpuFacts | undefined>();
  #current: { readonly id: string; running: Running; notes: string[] } | undefined;

  #memory: MemoryUse | undefined;

  /** @param opening what a worker opens the GPU and the model with */
  constructor(
    private readonly store: JobStore,
    private readonly opening: Extract<ToWorker, { readonly open: unknown }>,
    private readonly onBug: (message: string) => void,
    private readonly workerModule = workerUrl("cli/serve/worker.ts"),
  ) {
    this.#next();
  }

  /** The GPU memory after the last clip; undefined before the first. */
  get memory(): MemoryUse | undefined {
    return this.#memory;
  }

  /** The GPU that clips are made on; undefined where none can be opened, which the first job will say. */
  get gpu(): Promise<GpuFacts | undefined> {
    this.#worker ??= this.#openWorker();
    return this.#gpu.promise;
  }

  /** Adds a job at the end. It resolves when the job is on the disk. */
  async add(job: Job): Promise<void> {
    await this.store.put(job);
    this.#tell(job.id);
    this.#next();
  }

  running(id: string): Running | undefined {
    return this.#current?.id === id ? this.#current.running : undefined;
  }

  /** Ends a job that has not ended yet, as failed. A running one ends within a step. */
  async cancel(id: string): Promise<void> {
    const job = this.store.get(id);
    if (!job || hasEnded(job)) return;
    if (this.#current?.id === id) return this.#post({ cancel: id });
    await this.#end(job, { error: { code: "cancelled", message: "the job was cancelled before it began" } });
  }

  /** Cancels a job if it has not ended, and removes it with its files. */
  async remove(id: string): Promise<void> {
    if (this.#current?.id === id) this.#post({ cancel: id });
    await this.store.remove(id);
    this.#tell(id);
  }

  /** Calls `listener` at every change of every job, until the signal is aborted. */
  listen(listener: Listener, signal: AbortSignal): void {
    if (signal.aborted) return;
    this.#listeners.add(listener);
    signal.addEventListener("abort", () => this.#listeners.delete(listener));
  }

  [Symbol.dispose](): void {
    this.#worker?.terminate();
  }

  #post(message: ToWorker): void {
    this.#worker ??= this.#openWorker();
    this.#worker.postMessage(message);
  }

  #openWorker(): Worker {
    const worker = new Worker(this.workerModule, { type: "module" });
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#told(data);
    worker.onerror = (event) => {
      // Else the server would end, too.
      event.preventDefault();
      worker.terminate();
      if (this.#worker === worker) this.#crashed(event.message);
    };
    worker.postMessage(this.opening);
    return worker;
  }

  #crashed(message: string): void {
    [this.#worker, this.#memory] = [undefined, undefined];
    const why = printable(cut(message.replace(/^Uncaught (\(in worker[^)]*\) ?)?(\(in promise\) ?)?/, ""), 200));
    this.#gpu.resolve(undefined);
    const error =
      `the worker that made this clip crashed (${why}): ask for it again, and please report it if it crashes again`;
    if (this.#current) this.#told({ job: this.#current.id, error, bug: true, cancelled: false });
    else this.onBug(`the worker crashed: ${message}`);
  }

  /** Begins the next job, if none is running. */
  #next(): void {
    if (this.#current) return;
    const job = this.store.all.find(({ status }) => status === "queued");
    if (!job) return;
    this.#current = { id: job.id, running: NOT_BEGUN, notes: [] };
    this.#change({ ...job, status: "in_progress", started: now(), begun: (job.begun ?? 0) + 1 });
    this.#post({ job: job.id, clip: job.clip, ...job.tileMap && { tileMap: this.store.tileMapPath(job.id) } });
  }

  #told(told: FromWorker): void {
    if ("gpu" in told) return this.#gpu.resolve(told.gpu);
    const { job: id } = told, current = this.#current;
    if (current?.id !== id) return;
    if ("progress" in told) {
      current.running = { ...current.running, progress: told.progress, overall: told.overall };
      return this.#tell(id);
    }
    if ("preview" in told) {
      current.running = { ...current.running, preview: told.preview };
      return this.#tell(id);
    }
    if ("note" in told) return void current.notes.push(told.note);
    if ("memory" in told) return void (this.#memory = told.memory);
    const job = this.store.get(id), notes = current.notes.length > 0 ? { notes: current.notes } : {};
    this.#current = undefined;
    if ("error" in told && told.bug) this.onBug(`${id}: ${told.error}`);
    // A job that was deleted while it ran leaves no clip.
    if (!job) this.store.remove(id).catch((error) => this.onBug(String(error)));
    else if ("made" in told) this.#end(job, { ...told.made, ...notes, status: "completed" });
    else {
      // Nobody goes on with it.
      removeUnfinishedClip(job.clip.out).catch((error) => this.onBug(String(error)));
      const code = told.cancelled ? "cancelled" : "failed";
      this.#end(job, { ...notes, error: { code, message: told.cancelled ? "the job was cancelled" : told.error } });
    }
    this.#next();
  }

  #end(job: Job, end: Partial<Job>): Promise<void> {
    return this.#change({ ...job, status: "failed", ...end, completed: now() });
  }

  async #change(job: Job): Promise<void> {
    const written = this.store.put(job);
    this.#tell(job.id);
    await written.catch((error) => this.onBug(`${job.id} could not be kept: ${(error as Error).message}`));
  }

  #tell(id: string): void {
    for (const listener of this.#listeners) listener(id, this.store.get(id));
  }
}

function now(): number {
  return Math.floor(Date.now() / 1000);
}
