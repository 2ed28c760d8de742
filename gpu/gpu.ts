/**
 * One opened device: tensors in, kernels recorded in batches, numbers out.
 *
 * @module
 */
import { TilereelError } from "./common/errors.ts";
import { BoundsChecker } from "./bounds/checker.ts";
import { type ClampCount, ClampCounter, CLAMPED, uncounted } from "./clamps.ts";
import type { AdapterDescription } from "./device/adapter.ts";
import { folded, type KernelSource, MOST_GROUPS } from "./kernel.ts";
import { type KernelKind, KernelPicker } from "./kernel_picker.ts";
import type { MatrixUnits } from "./matrix_units.ts";
import { ASSUMED_MEMORY, Memory, type MemoryUse } from "./memory.ts";
import type { Precision } from "./precision.ts";
import type { Profiler } from "./profile/profiler.ts";
import { type Dispatch, Recorder } from "./recorder.ts";
import type { Tape } from "./tape.ts";
import { bytesOf, type GpuDtype, Tensor } from "./tensor.ts";

/** The settings that {@link Gpu} is opened with; see `openGpu`. */
export interface GpuSettings {
  readonly description: AdapterDescription;
  /** The kind of kernels to run; see `kernelKind`. */
  readonly kernels: KernelKind;
  readonly precision: Precision;
  /** The reason for this precision, in a few words. */
  readonly precisionReason: string;
  readonly memoryLimit: number;
  /** Kernels are compiled with checks of their indices. {@link Gpu.finish} throws if an index was out of bounds. */
  readonly checkBounds?: boolean;
}

/** A device, its memory and the commands being recorded for it. Made by `openGpu`. */
export class Gpu {
  /** Fills every new tensor that can be bound with NaN, so that a test notices values that a kernel did not write. */
  poison = false;
  /** Makes kernels count the operands that f16 cannot hold, which makes them slower. Casts of weights always count. */
  countsClamps = false;

  /** Picks the kernels that ops run. */
  readonly kernels: KernelPicker = new KernelPicker(this);

  readonly #memory: Memory;
  readonly #recorder: Recorder;
  readonly #bounds: BoundsChecker | undefined;
  readonly #clamps: ClampCounter;
  #scopes: Set<Tensor>[] = [];
  #tape: Tape | undefined;
  #failure: Error | undefined;
  /** The device cannot work any more; {@link attempt} does not ignore this. */
  #gone = false;
  #closed = false;
  #placeholder: Tensor | undefined;

  constructor(readonly device: GPUDevice, readonly settings: GpuSettings) {
    this.#memory = new Memory(device, settings.memoryLimit, {
      onFailure: (error) => this.#failure ??= error,
      beforeDestroying: () => {
        this.submit();
        this.#recorder.pipelines.unbind();
      },
    });
    this.#recorder = new Recorder(device, settings.description.source);
    this.#clamps = new ClampCounter(device);
    this.#bounds = settings.checkBounds ? new BoundsChecker(device) : undefined;
    device.lost.then(({ reason, message }) => {
      this.#gone = true;
      this.#failure ??= new TilereelError(
        `the GPU was lost while working (${message || reason}): another program may have used up its memory, ` +
          `or its driver restarted; run the command again, with a smaller size if it happens again`,
      );
    });
    device.addEventListener("uncapturederror", (event) => {
      const { error } = event as GPUUncapturedErrorEvent;
      event.preventDefault(); // Dawn would print it, too
      // Compared by name, because each source of devices has its own error class.
      this.#failure ??= error.constructor.name === "GPUOutOfMemoryError"
        ? new TilereelError(`too little memory: the GPU refused an allocation (${error.message})`)
        : new Error(`WebGPU: ${error.message}`);
    });
  }

  /** Whether the device can still work: false once it is lost or has refused an allocation. */
  get usable(): boolean {
    return this.#failure === undefined;
  }

  /** Whether matrix operands are held in f16. */
  get f16(): boolean {
    return this.settings.precision === "f16";
  }

  /** The matrix units that the kernels use; undefined where they use none. */
  get matrixUnits(): MatrixUnits | undefined {
    return this.settings.kernels === "matrix" ? this.settings.description.matrixUnits : undefined;
  }

  /** The memory in use, the memory allocated, and the peak. */
  get memory(): MemoryUse {
    return this.#memory.use;
  }

  /**
   * Bytes that may be allocated at once: the limit, or an assumed size. Plans go by this; allocations go by the limit
   * alone.
   */
  get memoryBudget(): number {
    const { memoryLimit } = this.settings;
    return memoryLimit === Infinity ? ASSUMED_MEMORY : memoryLimit;
  }

  /** The largest size of one tensor, in bytes. */
  get maxTensorBytes(): number {
    const { maxStorageBufferBindingSize, maxBufferSize } = this.device.limits;
    return Math.min(maxStorageBufferBindingSize, maxBufferSize);
  }

  /** The largest number of threads of a workgroup along one axis. */
  get maxThreads(): number {
    const { maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX } = this.device.limits;
    return Math.min(maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX);
  }

  /**
   * Makes a new tensor with undefined contents.
   *
   * @param what a name for the message when memory runs out
   * @throws {TilereelError} when it does not fit
   */
  tensor(shape: readonly number[], dtype: GpuDtype = "f32", what = `a tensor of [${shape}]`): Tensor {
    this.#checkOpen();
    return this.#made(this.#memory.allocate(bytesOf(shape, dtype), what), shape, dtype);
  }

  /**
   * Makes a tensor that may be larger than what a kernel can bind. It is for weights, which `linear` binds in parts.
   *
   * @throws {TilereelError} when it does not fit
   */
  weight(shape: readonly number[], dtype: GpuDtype, what: string): Tensor {
    this.#checkOpen();
    return this.#made(this.#memory.allocate(bytesOf(shape, dtype), what, "in parts"), shape, dtype);
  }

  /** Makes a tensor from these numbers. 16-bit formats are given packed, as a Uint8Array of their bytes. */
  upload(data: Float32Array | Uint32Array | Uint8Array, shape: readonly number[], dtype: GpuDtype = "f32"): Tensor {
    if (Math.ceil(data.byteLength / 4) * 4 !== bytesOf(shape, dtype)) {
      throw new Error(`${data.byteLength} bytes given for [${shape}] ${dtype}`);
    }
    const tensor = this.tensor(shape, dtype);
    this.write(tensor, data, 0);
    return tensor;
  }

  /** Overwrites part of a tensor, from byte `offset` on. It takes effect in order with the work recorded so far. */
  write(tensor: Tensor, data: Float32Array | Uint32Array | Uint8Array, offset: number): void {
    if (offset + data.byteLength > tensor.bytes) {
      throw new Error(`${data.byteLength} bytes from ${offset} on do not fit [${tensor.shape}] ${tensor.dtype}`);
    }
    this.submit();
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const whole = bytes.byteLength & ~3;
    const at = tensor.offset + offset;
    if (whole > 0) this.device.queue.writeBuffer(tensor.buffer, at, bytes as Uint8Array<ArrayBuffer>, 0, whole);
    if (whole < bytes.byteLength) {
      const rest = new Uint8Array(4);
      rest.set(bytes.subarray(whole));
      this.device.queue.writeBuffer(tensor.buffer, at + whole, rest);
    }
    // wgpu keeps its own copy until the next submission. Without one, a model would be in memory twice.
    this.device.queue.submit([]);
  }

  /**
   * Runs `work`, which records but does not wait. Then frees every tensor that it made, except those that it returns.
   * Returned tensors pass to the enclosing scope, or to the caller if there is none. While a tape is open, all tensors
   * pass to the enclosing scope.
   */
  scope<T extends Tensor | readonly Tensor[] | void>(work: () => T): T {
    const scope = this.#openScope();
    let kept: readonly Tensor[] = [];
    try {
      const result = work();
      kept = result instanceof Tensor ? [result] : result ?? [];
      return result;
    } finally {
      this.#closeScope(scope, kept);
    }
  }

  /**
   * As {@link scope}, for work that waits. Nothing else may use this `Gpu` meanwhile. All tensors of the work are
   * freed.
   */
  async waitingScope<T>(work: () => Promise<T>): Promise<T> {
    const scope = this.#openScope();
    try {
      return await work();
    } finally {
      this.#closeScope(scope, []);
    }
  }

  /**
   * Runs `work`, which records but does not wait, and returns every tensor made in it that was not freed. This is for
   * tensors that must outlive a wait, which no scope allows. The caller releases them.
   */
  collect<T>(work: () => T): { readonly result: T; readonly tensors: readonly Tensor[] } {
    const scope = new Set<Tensor>();
    this.#scopes.push(scope);
    try {
      return { result: work(), tensors: [...scope] };
    } catch (error) {
      for (const tensor of scope) this.#memory.release(tensor.buffer);
      throw error;
    } finally {
      this.#scopes.pop();
    }
  }

  /** Takes a tensor out of its scopes, so that it can outlive them. Its owner must release it. */
  keep(tensor: Tensor): Tensor {
    for (const scope of this.#scopes) {
      for (const owned of scope) if (owned.buffer === tensor.buffer) scope.delete(owned);
    }
    return tensor;
  }

  /** The tape that ops record on, while one is open. */
  get tape(): Tape | undefined {
    return this.#tape;
  }

  /**
   * Runs `work` with the tape open. Nothing is freed in it, because the backward pass needs it. It must be called in a
   * scope.
   */
  taping<T extends Tensor | readonly Tensor[] | void>(tape: Tape, work: () => T): T {
    if (this.#scopes.length === 0) throw new Error("taping without a scope would never be freed");
    this.#tape = tape;
    try {
      return work();
    } finally {
      this.#tape = undefined;
    }
  }

  /** Runs `work` with the tape closed. This is for work that records itself as one step, whatever ops it uses. */
  untaped<T>(work: () => T): T {
    const tape = this.#tape;
    this.#tape = undefined;
    try {
      return work();
    } finally {
      this.#tape = tape;
    }
  }

  /**
   * Frees a tensor before its scope ends, or at the scope's end while a tape is open. Recorded work can still use it.
   */
  release(tensor: Tensor): void {
    if (this.#tape) return;
    this.#memory.release(this.keep(tensor).buffer);
  }

  /** Gives memory that is kept for reuse back to the device. */
  trim(): void {
    this.#memory.trim();
  }

  /** A buffer to bind where a kernel declares one that it does not read this time. */
  get placeholder(): Tensor {
    return this.#placeholder ??= new Tensor(this.#memory.allocate(256, "placeholder"), 0, [1], "f32");
  }

  /** Records one launch of a kernel. */
  run(kernel: KernelSource, dispatch: Dispatch): void {
    if (this.#failure) throw this.#failure;
    const { workgroups } = dispatch;
    if (workgroups.some((n) => n > MOST_GROUPS)) throw new Error(`kernel ${kernel.name}: ${workgroups} workgroups`);
    if (CLAMPED in kernel.buffers && !this.countsClamps) kernel = uncounted(kernel);
    if (CLAMPED in kernel.buffers) {
      this.#clamps.used = true;
      dispatch = { ...dispatch, buffers: { ...dispatch.buffers, [CLAMPED]: this.#clamps.tensor } };
    }
    if (this.#bounds) [kernel, dispatch] = this.#bounds.watched(kernel, dispatch);
    if (workgroups.every((n) => n > 0)) this.#recorder.dispatch(kernel, dispatch);
  }

  /** Copies the numbers of `from` into `to`, which must have the same size. */
  copy(from: Tensor, to: Tensor): void {
    this.#recorder.copy(from.buffer, from.offset, to.buffer, to.offset, from.bytes);
  }

  /** Sends the recorded work to the device, without waiting. */
  submit(): void {
    this.#recorder.submit();
  }

  /** The profiler that measures dispatches, if there is one; see `Profiler.start`. */
  get profiler(): Profiler | undefined {
    return this.#recorder.profiler;
  }

  set profiler(profiler: Profiler | undefined) {
    this.#recorder.profiler = profiler;
  }

  /** Runs `work`, which may wait. In a profile, the work that it records carries the label. */
  labelled<T>(name: string, work: () => T): T {
    return this.profiler ? this.profiler.labelled(name, work) : work();
  }

  /**
   * Runs `work`, which may fail and may wait, until the device is done. A kernel that does not compile is dropped.
   *
   * @returns what went wrong, thrown or reported late; undefined if all went well
   * @throws {TilereelError} when the device is lost
   */
  async attempt(work: () => unknown): Promise<Error | undefined> {
    await this.finish();
    const compiled = this.#recorder.pipelines.kernels();
    try {
      await work();
      await this.finish();
      return undefined;
    } catch (error) {
      if (this.#gone || !(error instanceof Error)) throw error;
      this.#recorder.discard();
      this.#recorder.pipelines.keepOnly(compiled);
      this.#failure = undefined;
      this.trim(); // frees what the failed work allocated
      return error;
    }
  }

  /**
   * Submits, and waits until the device is done. Work that is recorded meanwhile is not waited for.
   *
   * @throws {TilereelError} when the device was lost or memory ran out since the last wait
   */
  async finish(): Promise<void> {
    if (!this.#failure) {
      await this.#recorder.done().catch(() => {/* a lost device: #failure says so below */});
    }
    // Lets the late reports of lost devices and refused allocations arrive.
    await new Promise((resolve) => setTimeout(resolve, 0));
    if (this.#failure) throw this.#failure;
    await this.#bounds?.check();
  }

  /** The numbers of an f32 tensor, after everything recorded so far. */
  async read(tensor: Tensor): Promise<Float32Array> {
    return new Float32Array(await this.readBytes(tensor));
  }

  /** The bytes of a tensor, after everything recorded so far. */
  async readBytes(tensor: Tensor): Promise<ArrayBuffer> {
    const { bytes } = tensor;
    const staging = this.device.createBuffer({ size: bytes, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    try {
      this.#recorder.copy(tensor.buffer, tensor.offset, staging, 0, bytes);
      const finished = this.finish();
      // Asked for at once: Deno looks for what is done every 10 ms, and would wait twice.
      const mapped = staging.mapAsync(GPUMapMode.READ);
      mapped.catch(() => {/* told below */});
      await finished;
      try {
        await mapped;
        return staging.getMappedRange().slice(0);
      } catch (error) {
        // A device lost by now has its own words for that.
        await this.finish();
        throw error;
      }
    } finally {
      staging.destroy();
    }
  }

  /** Where `castInto` counts what f16 cannot hold of a weight of that name. */
  clampPlace(name: string): number {
    return this.#clamps.placeOf(name);
  }

  /** Numbers that f16 could not hold since this was last asked for, after everything recorded so far. */
  async takeClamped(): Promise<ClampCount[]> {
    if (!this.#clamps.used) return [];
    this.#clamps.used = false;
    const { tensor } = this.#clamps;
    const counts = this.#clamps.counts(await this.readBytes(tensor));
    if (counts.length > 0) this.write(tensor, new Uint32Array(tensor.size), 0);
    return counts;
  }

  /** Lets the device go; nothing can be done with it afterwards. */
  close(): void {
    if (this.#closed) return;
    this.#failure = new TilereelError("this GPU is closed: open it again with openGpu");
    this.#closed = this.#gone = true;
    this.device.destroy();
  }

  #checkOpen(): void {
    if (this.#closed) throw this.#failure;
  }

  #made(buffer: GPUBuffer, shape: readonly number[], dtype: GpuDtype): Tensor {
    const tensor = new Tensor(buffer, 0, shape, dtype);
    this.#scopes.at(-1)?.add(tensor);
    if (this.poison && tensor.bytes <= this.maxTensorBytes) this.#fillWithNaN(tensor);
    return tensor;
  }

  #openScope(): Set<Tensor> {
    const scope = new Set<Tensor>();
    this.#scopes.push(scope);
    return scope;
  }

  #closeScope(scope: ReadonlySet<Tensor>, kept: readonly Tensor[]): void {
    this.#scopes.pop();
    const keep = new Set(kept.map((t) => t.buffer));
    const outer = this.#scopes.at(-1);
    for (const tensor of scope) {
      if (this.#tape || keep.has(tensor.buffer)) outer?.add(tensor);
      else this.#memory.release(tensor.buffer);
    }
  }

  #fillWithNaN(tensor: Tensor): void {
    const count = tensor.bytes / 4;
    this.run(FILL, {
      buffers: { y: tensor },
      params: { count, value: 0x7fc07fc0 },
      workgroups: folded(Math.ceil(count / 64)),
    });
  }
}

const FILL: KernelSource = {
  name: "fill",
  buffers: { y: { access: "read_write", element: "u32" } },
  params: { count: "u32", value: "u32" },
  workgroupSize: [64, 1, 1],
  body: `  let i = (wid.y * nwg.x + wid.x) * 64u + li;
  if (i < p.count) { y[i] = p.value; }`,
};
