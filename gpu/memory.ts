import { OutOfMemoryError } from "./common/errors.ts";
import { formatBytes } from "./common/format_bytes.ts";

/** Sizes are rounded up to a multiple of this many bytes, so that nearly equal sizes can share buffers. */
const GRAIN = 256;
/** The largest share of a free buffer that may be wasted when it serves a request. */
const WASTE = 0.35;

/** WebGPU does not tell how much memory a GPU has. Where the user sets no limit, plans assume this many bytes. */
export const ASSUMED_MEMORY = 8e9;

/** The memory use of {@link Memory}, in bytes. */
export interface MemoryUse {
  /** Bytes in use now. */
  readonly used: number;
  /** Bytes allocated now, including free buffers. */
  readonly held: number;
  /** The largest number of bytes that were allocated at once. */
  readonly peak: number;
}

/** A buffer with its size in bytes, which takes Dawn as long to tell as recording a dispatch. */
interface SizedBuffer {
  readonly buffer: GPUBuffer;
  readonly size: number;
}

/**
 * The memory of one device. Buffers are handed out, taken back and handed out again, so a forward pass holds only what
 * is alive at once, and allocates nothing after the first pass.
 */
export class Memory {
  /** In the order in which they were released. */
  #free: SizedBuffer[] = [];
  /** Buffers in use, with their sizes. */
  #live = new Map<GPUBuffer, number>();
  /** Buffers that cannot be used: WebGPU reported their failure after they were handed out. */
  #refused = new Set<GPUBuffer>();
  #used = 0;
  #held = 0;
  #peak = 0;

  /**
   * @param limit the most bytes that may be allocated at once
   * @param hooks `onFailure` is called when the device refused an allocation, which WebGPU reports late.
   * `beforeDestroying` submits the recorded work, because a buffer must not be destroyed before the work on it is
   * submitted
   */
  constructor(
    private readonly device: GPUDevice,
    private readonly limit: number,
    private readonly hooks: { onFailure(error: OutOfMemoryError): void; beforeDestroying(): void },
  ) {}

  get use(): MemoryUse {
    return { used: this.#used, held: this.#held, peak: this.#peak };
  }

  /**
   * Hands out a buffer of at least `bytes`, for storage, copies and uploads. Its contents are undefined.
   *
   * @param bound "in parts": it may be larger than what a kernel can bind
   * @throws {OutOfMemoryError} when the adapter or the limit forbids it. The message says what was requested and available
   */
  allocate(bytes: number, what: string, bound: "whole" | "in parts"): GPUBuffer {
    const size = Math.max(Math.ceil(bytes / GRAIN) * GRAIN, GRAIN);
    const { maxStorageBufferBindingSize, maxBufferSize } = this.device.limits;
    const most = bound === "whole" ? Math.min(maxStorageBufferBindingSize, maxBufferSize) : maxBufferSize;
    if (size > most) {
      throw new OutOfMemoryError(
        `too little memory: ${what} needs one buffer of ${formatBytes(bytes)}, this adapter allows ` +
          `${formatBytes(most)}; use a smaller size, fewer frames, or another adapter`,
      );
    }
    let best = -1;
    for (let i = 0; i < this.#free.length; i++) {
      const free = this.#free[i]!.size;
      if (free < size || free * (1 - WASTE) > size) continue;
      if (best < 0 || free < this.#free[best]!.size) best = i;
    }
    const found = best >= 0 ? this.#free.splice(best, 1)[0]! : { buffer: this.#create(size, what), size };
    this.#used += found.size;
    this.#live.set(found.buffer, found.size);
    return found.buffer;
  }

  /** Whether a buffer that the device refused is still in use. */
  get holdsRefused(): boolean {
    return [...this.#refused].some((buffer) => this.#live.has(buffer));
  }

  /** Takes a buffer back. Recorded work can still use it, because the queue keeps the order. */
  release(buffer: GPUBuffer): void {
    const size = this.#live.get(buffer);
    if (size === undefined) throw new Error(`"${buffer.label}" was released twice`);
    this.#live.delete(buffer);
    this.#used -= size;
    this.#free.push({ buffer, size });
  }

  /**
   * Gives free buffers back to the device, those first that have been free the longest.
   *
   * @param most as soon as no more bytes than this are held, the others are kept. Default: none is
   */
  trim(most = 0): void {
    this.hooks.beforeDestroying();
    while (this.#held > most && this.#free.length > 0) {
      const { buffer, size } = this.#free.shift()!;
      this.#held -= size;
      this.#refused.delete(buffer);
      buffer.destroy();
    }
  }

  #create(size: number, what: string): GPUBuffer {
    if (this.#held + size > this.limit) this.trim(this.limit - size);
    if (this.#held + size > this.limit) {
      throw new OutOfMemoryError(
        `too little memory: ${what} needs ${formatBytes(size)} in addition to the ${formatBytes(this.#held)} in use, ` +
          `but the limit is ${formatBytes(this.limit)}; raise it, or use a smaller size or fewer frames`,
      );
    }
    const before = this.#held;
    this.device.pushErrorScope("out-of-memory");
    const buffer = this.device.createBuffer({
      label: what,
      size,
      usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
    });
    this.device.popErrorScope().then((error) => {
      if (!error) return;
      this.#refused.add(buffer);
      this.hooks.onFailure(
        new OutOfMemoryError(
          `too little memory: the GPU has no ${formatBytes(size)} for ${what} beside the ${formatBytes(before)} ` +
            `in use; use a smaller size, fewer frames, or another adapter`,
        ),
      );
    }, () => {/* the device is gone: its loss is reported where it is noticed */});
    this.#held += size;
    this.#peak = Math.max(this.#peak, this.#held);
    return buffer;
  }
}
