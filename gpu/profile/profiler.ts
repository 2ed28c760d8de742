/**
 * Takes the GPU's own time of every dispatch: each gets a compute pass of its own, which writes two timestamps. They
 * are resolved with the batch they belong to, and stay on the device until the profile is taken: asked for earlier,
 * Deno would stand still until they are there, and the GPU with it.
 *
 * @module
 */
import { TilereelError } from "../../errors.ts";
import type { Gpu } from "../gpu.ts";
import { LARGEST_BATCH } from "../recorder.ts";
import { nanosecondsPerTick } from "./tick.ts";

/** Bytes of the two timestamps of a dispatch. */
const BYTES = 16;

/** One dispatch, when it ran. */
export interface ProfiledDispatch {
  readonly kernel: string;
  /** What it was recorded in, from the outside in: "step 3", "block 7". */
  readonly labels: readonly Label[];
  /** Nanoseconds by the GPU's clock, from some moment of the profile on. */
  readonly begin: number;
  readonly end: number;
}

/** A stretch of recording; two of the same name are two. */
export interface Label {
  readonly name: string;
}

/** A dispatch whose times are not read yet. */
type Noted = Pick<ProfiledDispatch, "kernel" | "labels">;

/** A batch whose times are on the device. */
interface Batch {
  readonly copy: GPUBuffer;
  readonly noted: readonly Noted[];
}

/** Records GPU times while it is the `profiler` of a `Gpu`. */
export class Profiler {
  readonly #device: GPUDevice;
  readonly #queries: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  #noted: Noted[] = [];
  #labels: readonly Label[] = [];
  #batches: Batch[] = [];
  /** Ticks that times are counted from: all of them may be more than a number holds. */
  #origin: bigint | undefined;

  private constructor(private readonly gpu: Gpu, private readonly tick: number) {
    this.#device = gpu.device;
    this.#queries = this.#device.createQuerySet({ type: "timestamp", count: 2 * LARGEST_BATCH });
    this.#resolved = this.#device.createBuffer({
      label: "timestamps",
      size: LARGEST_BATCH * BYTES,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    });
  }

  /**
   * Takes the times of all that a `Gpu` records from now on.
   *
   * @throws {TilereelError} when its adapter has no timestamps
   */
  static async start(gpu: Gpu): Promise<Profiler> {
    const { name, features } = gpu.settings.description;
    if (!features.includes("timestamp-query")) {
      throw new TilereelError(`${name} has no timestamp-query, which a profile needs: profile on another adapter`);
    }
    await gpu.finish();
    const profiler = new Profiler(gpu, await nanosecondsPerTick(gpu.device));
    gpu.profiler = profiler;
    return profiler;
  }

  /** Runs `work`, which may wait; what is recorded until its end carries the label. */
  labelled<T>(name: string, work: () => T): T {
    const outer = this.#labels;
    const restore = () => void (this.#labels = outer);
    this.#labels = [...outer, { name }];
    let waits = false;
    try {
      const result = work();
      waits = result instanceof Promise;
      return waits ? (result as Promise<unknown>).finally(restore) as T : result;
    } finally {
      if (!waits) restore();
    }
  }

  /** Notes the next dispatch; gives what its pass has to be begun with. */
  note(kernel: string): GPUComputePassTimestampWrites {
    const at = 2 * this.#noted.length;
    this.#noted.push({ kernel, labels: this.#labels });
    return { querySet: this.#queries, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 };
  }

  /** Records the way of a batch's timestamps out of the queries, last of all in it. */
  resolve(encoder: GPUCommandEncoder): void {
    const noted = this.#noted, count = noted.length;
    if (count === 0) return;
    const copy = this.#device.createBuffer({
      label: "timestamps",
      size: count * BYTES,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    });
    // One query set and one buffer serve all batches: the queue keeps order.
    encoder.resolveQuerySet(this.#queries, 0, 2 * count, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, copy, 0, count * BYTES);
    this.#batches.push({ copy, noted });
    this.#noted = [];
  }

  /** Forgets what was noted since the last batch. */
  discard(): void {
    this.#noted = [];
  }

  /** Waits, and gives what ran since the start, or since the last call, in order. */
  async take(): Promise<readonly ProfiledDispatch[]> {
    await this.gpu.finish();
    // All at once: Deno looks at each every 10 ms.
    return (await Promise.all(this.#batches.splice(0).map((batch) => this.#fetch(batch)))).flat();
  }

  /** Ends the profile. */
  stop(): void {
    this.gpu.profiler = undefined;
    for (const buffer of [this.#resolved, ...this.#batches.splice(0).map(({ copy }) => copy)]) buffer.destroy();
    this.#queries.destroy();
  }

  async #fetch({ copy, noted }: Batch): Promise<readonly ProfiledDispatch[]> {
    await copy.mapAsync(GPUMapMode.READ);
    const ticks = new BigUint64Array(copy.getMappedRange(0, noted.length * BYTES).slice(0));
    copy.destroy();
    const origin = this.#origin ??= ticks[0]!;
    const time = (i: number) => Number(ticks[i]! - origin) * this.tick;
    return noted.map((dispatch, i) => ({ ...dispatch, begin: time(2 * i), end: time(2 * i + 1) }));
  }
}
