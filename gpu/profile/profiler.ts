import { TilereelError } from "../common/errors.ts";
import type { Gpu } from "../gpu.ts";
import { LARGEST_BATCH } from "../recorder.ts";
import { nanosecondsPerTick } from "./tick.ts";

/** The size of a dispatch's two timestamps in bytes. */
const BYTES = 16;

/** One dispatch and its times. */
export interface ProfiledDispatch {
  readonly kernel: string;
  /** The labels around it, from the outermost in: "step 3", "block 7". */
  readonly labels: readonly Label[];
  /** Nanoseconds of the GPU's clock, from an arbitrary moment on. */
  readonly begin: number;
  readonly end: number;
}

/** A labelled stretch of recording. Two stretches with the same name are distinct. */
export interface Label {
  readonly name: string;
}

/** A dispatch whose times are not read yet. */
type Noted = Pick<ProfiledDispatch, "kernel" | "labels">;

/**
 * Records the GPU's own time of every dispatch while it is the `profiler` of a `Gpu`. Each dispatch gets its own compute
 * pass, which writes two timestamps. They are resolved in the same batch and stay on the device until the profile is
 * taken. If they were read earlier, Deno would block until they are there, and then the GPU would idle.
 */
export class Profiler {
  readonly #queries: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  #noted: Noted[] = [];
  #labels: readonly Label[] = [];
  /** Batches whose times are on the device. */
  #batches: { readonly copy: GPUBuffer; readonly noted: readonly Noted[] }[] = [];
  /** The tick at which times start. Absolute ticks may exceed what a number can hold exactly. */
  #origin: bigint | undefined;

  private constructor(private readonly gpu: Gpu, private readonly tick: number) {
    this.#queries = gpu.device.createQuerySet({ type: "timestamp", count: 2 * LARGEST_BATCH });
    this.#resolved = gpu.device.createBuffer({
      label: "timestamps",
      size: LARGEST_BATCH * BYTES,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    });
  }

  /**
   * Measures all work that a `Gpu` records from now on.
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

  /** Runs `work`, which may wait. All that is recorded until it ends carries the label. */
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

  /** Registers the next dispatch, and returns the descriptor that its pass must start with. */
  note(kernel: string): GPUComputePassTimestampWrites {
    const at = 2 * this.#noted.length;
    this.#noted.push({ kernel, labels: this.#labels });
    return { querySet: this.#queries, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 };
  }

  /** Records the commands that resolve a batch's timestamps. They come last in the batch. */
  resolve(encoder: GPUCommandEncoder): void {
    const noted = this.#noted, count = noted.length;
    if (count === 0) return;
    const copy = this.gpu.device.createBuffer({
      label: "timestamps",
      size: count * BYTES,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    });
    // One query set and one buffer serve all batches, because the queue keeps the order.
    encoder.resolveQuerySet(this.#queries, 0, 2 * count, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, copy, 0, count * BYTES);
    this.#batches.push({ copy, noted });
    this.#noted = [];
  }

  /** Drops the dispatches that were registered since the last batch. */
  discard(): void {
    this.#noted = [];
  }

  /** Waits, and returns the dispatches since the start or the last call, in order. */
  async take(): Promise<readonly ProfiledDispatch[]> {
    await this.gpu.finish();
    const batches = this.#batches.splice(0);
    // All are read at once, because Deno checks for results only every 10 ms.
    await Promise.all(batches.map(({ copy }) => copy.mapAsync(GPUMapMode.READ)));
    return batches.flatMap(({ copy, noted }) => {
      const ticks = new BigUint64Array(copy.getMappedRange(0, noted.length * BYTES).slice(0));
      copy.destroy();
      const origin = this.#origin ??= ticks[0]!;
      const time = (i: number) => Number(ticks[i]! - origin) * this.tick;
      return noted.map((dispatch, i) => ({ ...dispatch, begin: time(2 * i), end: time(2 * i + 1) }));
    });
  }

  stop(): void {
    this.gpu.profiler = undefined;
    for (const buffer of [this.#resolved, ...this.#batches.splice(0).map(({ copy }) => copy)]) buffer.destroy();
    this.#queries.destroy();
  }
}
