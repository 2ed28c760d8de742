import { type KernelSource, type WgslDialect, writeParams } from "./kernel.ts";
import { Pipelines } from "./pipelines.ts";
import type { Profiler } from "./profile/profiler.ts";
import type { Tensor } from "./tensor.ts";

/** Uniform blocks are aligned to this many bytes (WebGPU's strictest minUniformBufferOffsetAlignment). */
const PARAMS_STRIDE = 256;
/**
 * The number of dispatches in the first batch for an idle device. It is small, so that the device starts while the rest
 * is recorded. Each later batch has twice as many, because a submission costs as much as many dispatches.
 */
const FIRST_BATCH = 16;
/** The largest number of dispatches in one batch. */
export const LARGEST_BATCH = 256;

/** One dispatch of a kernel. */
export interface Dispatch {
  /** A tensor for each buffer that the kernel declares. */
  readonly buffers: Readonly<Record<string, Tensor>>;
  /** A number for each parameter that the kernel declares. */
  readonly params: Readonly<Record<string, number>>;
  /** The number of workgroups along x, y, z. */
  readonly workgroups: readonly [number, number, number];
}

/** Records dispatches and copies, and submits them to the device in batches. */
export class Recorder {
  readonly pipelines: Pipelines;
  /** Measures what is recorded. It must change between two batches. */
  profiler: Profiler | undefined;
  /** While it is set, kernels are noted in it, and nothing is recorded. */
  listing: Set<KernelSource> | undefined;
  readonly #params: GPUBuffer;
  readonly #paramsStaging = new DataView(new ArrayBuffer(LARGEST_BATCH * PARAMS_STRIDE));
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  #recorded = 0;
  #batch = FIRST_BATCH;
  #submissions = 0;

  constructor(private readonly device: GPUDevice, dialect: WgslDialect) {
    this.#params = device.createBuffer({
      label: "params",
      size: LARGEST_BATCH * PARAMS_STRIDE,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
    this.pipelines = new Pipelines(device, dialect, this.#params);
  }

  dispatch(kernel: KernelSource, { buffers, params, workgroups }: Dispatch): void {
    if (this.listing) {
      this.listing.add(kernel);
      return;
    }
    const { pipeline } = this.pipelines.get(kernel);
    if (this.#recorded === this.#batch) {
      this.submit();
      this.#batch = Math.min(this.#batch * 2, LARGEST_BATCH);
    }
    const at = this.#recorded * PARAMS_STRIDE;
    writeParams(kernel, params, this.#paramsStaging, at);
    const group = this.pipelines.bind(kernel, buffers);
    this.#encoder ??= this.device.createCommandEncoder();
    if (this.profiler) this.#endPass();
    this.#pass ??= this.#encoder.beginComputePass(
      this.profiler && { label: kernel.name, timestampWrites: this.profiler.note(kernel.name) },
    );
    this.#pass.setPipeline(pipeline);
    this.#pass.setBindGroup(0, group, [at]);
    this.#pass.dispatchWorkgroups(...workgroups);
    this.#recorded++;
  }

  copy(from: GPUBuffer, fromOffset: number, to: GPUBuffer, toOffset: number, bytes: number): void {
    if (this.listing) return;
    this.#endPass();
    this.#encoder ??= this.device.createCommandEncoder();
    this.#encoder.copyBufferToBuffer(from, fromOffset, to, toOffset, bytes);
  }

  /** Submits the recorded work to the device, without waiting. */
  submit(): void {
    if (!this.#encoder) return;
    this.#endPass();
    this.profiler?.resolve(this.#encoder);
    // The queue keeps the order: the previous batch has read its parameters before these are written.
    this.device.queue.writeBuffer(this.#params, 0, this.#paramsStaging.buffer, 0, this.#recorded * PARAMS_STRIDE);
    this.device.queue.submit([this.#encoder.finish()]);
    this.#encoder = undefined;
    this.#recorded = 0;
    this.#submissions++;
  }

  /** Submits, and waits until the work is done. More work may be recorded meanwhile. */
  async done(): Promise<void> {
    this.submit();
    const submissions = this.#submissions;
    await this.device.queue.onSubmittedWorkDone();
    if (submissions === this.#submissions) this.#batch = FIRST_BATCH;
  }

  /** Drops the work that was recorded but not submitted. */
  discard(): void {
    this.#endPass();
    this.#encoder = undefined;
    this.#recorded = 0;
    this.profiler?.discard();
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = undefined;
  }
}
