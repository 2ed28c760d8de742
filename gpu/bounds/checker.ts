import { u32 } from "../formats/u32.ts";
import type { KernelSource } from "../kernel.ts";
import type { Dispatch } from "../recorder.ts";
import { Tensor } from "../tensor.ts";
import { SITES, watchIndices } from "./rewrite.ts";

/** The largest number of index sites that one device can check, over all its kernels. */
const MOST_SITES = 1 << 14;

/** Adds index checks to all kernels of a device, for tests; see `rewrite.ts`. */
export class BoundsChecker {
  readonly #watched = new Map<KernelSource, KernelSource>();
  /** The text about each site in the message. */
  readonly #sites: string[] = [];
  readonly #found: Tensor;

  constructor(private readonly device: GPUDevice) {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const buffer = device.createBuffer({ label: SITES, size: 4 * MOST_SITES, usage });
    this.#found = new Tensor(buffer, 0, [MOST_SITES], u32);
  }

  /** What to record instead of a kernel's launch. */
  watched(kernel: KernelSource, dispatch: Dispatch): [KernelSource, Dispatch] {
    let watched = this.#watched.get(kernel);
    if (!watched) {
      const { kernel: rewritten, sites } = watchIndices(kernel, this.#sites.length);
      this.#sites.push(...sites.map((site) => `kernel ${kernel.name}, ${site}`));
      if (this.#sites.length > MOST_SITES) throw new Error(`bounds are checked at ${MOST_SITES} sites at most`);
      this.#watched.set(kernel, watched = rewritten);
    }
    return [watched, { ...dispatch, buffers: { ...dispatch.buffers, [SITES]: this.#found } }];
  }

  /**
   * Waits for the submitted work.
   *
   * @throws when an index was out of bounds since the last time
   */
  async check(): Promise<void> {
    if (this.#sites.length === 0) return;
    const { device } = this, size = 4 * this.#sites.length;
    const staging = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(this.#found.buffer, 0, staging, 0, size);
    encoder.clearBuffer(this.#found.buffer);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    const largest = new Uint32Array(staging.getMappedRange().slice(0));
    staging.destroy();
    const found = [...largest].flatMap((index, i) => index === 0 ? [] : [`${this.#sites[i]}: index ${index}`]);
    if (found.length > 0) throw new Error(`out of bounds: ${found.join("; ")}`);
  }
}
