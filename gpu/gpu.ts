import { BoundsChecker } from "./bounds/checker.ts";
import { type ClampCount, ClampCounter } from "./clamps.ts";
import { TilereelError } from "./common/errors.ts";
import type { AdapterDescription } from "./device/adapter.ts";
import { Failure } from "./failure.ts";
import { type Format, formatOf, FORMATS } from "./formats/formats.ts";
import { type KernelSource, MOST_GROUPS, type WgslDialect } from "./kernel.ts";
import { type KernelKind, KernelPicker } from "./kernel_picker.ts";
import type { MatrixUnits } from "./matrix_units.ts";
import { ASSUMED_MEMORY, Memory, type MemoryUse } from "./memory.ts";
import { poison } from "./poison.ts";
import { type Operands, type Precision, precisionName } from "./precision.ts";
import type { Profiler } from "./profile/profiler.ts";
import { type Dispatch, Recorder } from "./recorder.ts";
import { Scopes } from "./scopes.ts";
import type { TuningStore } from "./tuning/choices.ts";
import { bytesOf, Tensor } from "./tensor.ts";

/** The settings that {@link Gpu} is opened with; see `openGpu`. */
export interface GpuSettings {
  readonly description: AdapterDescription;
  /** The dialect of the device's compiler. */
  readonly dialect: WgslDialect;
  /** The kind of kernels to run; see `kernelKind`. */
  readonly kernels: KernelKind;
  /** The format of the operands of matrix products. */
  readonly precision: Operands;
  /** Whether products by int8 weights round their other operand to int8, too. Default: they decode the weights */
  readonly int8?: boolean;
  /** The reason for this precision, in a few words. */
  readonly precisionReason: string;
  readonly memoryLimit: number;
  /** Where the choices of kernels are remembered. Without it, they are not. */
  readonly tuningStore?: TuningStore | undefined;
  /** Nothing is computed and stored: all that is read is zero; see `dryGpu`. */
  readonly dry?: boolean;
  /** Kernels are compiled with checks of their indices. {@link Gpu.finish} throws if an index was out of bounds. */
  readonly checkBounds?: boolean;
}

/** What is written to a tensor is submitted at once if it has this many bytes. A submission takes longer than writing less. */
const SUBMITTED_BYTES = 2 ** 18;

/** An opened device: its memory, and the commands that are recorded for it in batches. `openGpu` makes it. */
export class Gpu extends Scopes {
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
  readonly #failure: Failure;
  #placeholder: Tensor | undefined;
  /** Whether tensors have memory. Those that have none are noted by their buffers. */
  #takesMemory = true;
  readonly #unbacked = new WeakSet<GPUBuffer>();

  constructor(readonly device: GPUDevice, readonly settings: GpuSettings) {
    super();
    this.#failure = new Failure(device);
    this.#memory = new Memory(device, settings.memoryLimit, {
      onFailure: (error) => this.#failure.note(error),
      beforeDestroying: () => {
        this.submit();
        this.#recorder.pipelines.unbind();
      },
    });
    this.#recorder = new Recorder(device, settings.dialect);
    this.#clamps = new ClampCounter(device);
    this.#bounds = settings.checkBounds ? new BoundsChecker(device) : undefined;
  }

  /** Whether the device can work: false once it is lost, or has refused an allocation; see {@link recover}. */
  get usable(): boolean {
    return !this.#failure.happened;
  }

  /** Whether matrix operands are held in f16. */
  get f16(): boolean {
    return this.settings.precision === "f16";
  }

  /** Whether products by int8 weights have both operands in int8. */
  get int8(): boolean {
    return this.settings.int8 ?? false;
  }

  /** The precision, as the user chooses it. */
  get precision(): Precision {
    return precisionName(this.settings);
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
   * @param bound "in parts": it may be larger than what a kernel can bind; see {@link weight}
   * @throws {TilereelError} when it does not fit
   * @throws the device's error, if it had one since the last call: no tensor is made that nobody would free
   */
  tensor(
    shape: readonly number[],
    as: Format = "f32",
    what = `a tensor of [${shape}]`,
    bound: "whole" | "in parts" = "whole",
  ): Tensor {
    this.#failure.check();
    const format = formatOf(as),
      buffer = this.#takesMemory ? this.#memory.allocate(bytesOf(shape, format), what, bound) : this.#withoutMemory();
    const tensor = new Tensor(buffer, 0, shape, format);
    this.own(tensor);
    if (this.poison && tensor.bytes <= this.maxTensorBytes) poison(this, tensor);
    return tensor;
  }

  /**
   * Makes a tensor that may be larger than what a kernel can bind. It is for weights, which `linear` binds in parts.
   *
   * @throws {TilereelError} when it does not fit
   */
  weight(shape: readonly number[], format: Format, what: string): Tensor {
    return this.tensor(shape, format, what, "in parts");
  }

  /** Makes a tensor from these numbers. 16-bit formats are given packed, as a Uint8Array of their bytes. */
  upload(
    data: Float32Array | Uint32Array | Uint8Array,
    shape: readonly number[],
    format: Format = "f32",
  ): Tensor {
    if (Math.ceil(data.byteLength / 4) * 4 !== bytesOf(shape, formatOf(format))) {
      throw new Error(`${data.byteLength} bytes given for [${shape}] ${format}`);
    }
    const tensor = this.tensor(shape, format);
    this.write(tensor, data, 0);
    return tensor;
  }

  /** Overwrites part of a tensor, from byte `offset` on. It takes effect in order with the work recorded so far. */
  write(tensor: Tensor, data: Float32Array | Uint32Array | Uint8Array, offset: number): void {
    if (offset + data.byteLength > tensor.bytes) {
      throw new Error(`${data.byteLength} bytes from ${offset} on do not fit [${tensor.shape}] ${tensor.format}`);
    }
    if (this.#unbacked.has(tensor.buffer)) return;
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
    if (bytes.byteLength >= SUBMITTED_BYTES) this.device.queue.submit([]);
  }

  /** Gives memory that is kept for reuse back to the device. */
  trim(): void {
    this.#memory.trim();
  }

  /** A buffer to bind where a kernel declares one that it does not read this time. */
  get placeholder(): Tensor {
    return this.#placeholder ??= new Tensor(this.#memory.allocate(256, "placeholder", "whole"), 0, [1], FORMATS.f32);
  }

  /** Records one launch of a kernel. */
  run(kernel: KernelSource, dispatch: Dispatch): void {
    this.#failure.check();
    const { workgroups } = dispatch;
    if (workgroups.some((n) => n > MOST_GROUPS)) throw new Error(`kernel ${kernel.name}: ${workgroups} workgroups`);
    [kernel, dispatch] = this.#clamps.watched(kernel, dispatch, this.countsClamps);
    if (this.#bounds) [kernel, dispatch] = this.#bounds.watched(kernel, dispatch);
    if (workgroups.every((n) => n > 0)) this.#recorder.dispatch(kernel, dispatch);
  }

  /**
   * Whether {@link compileAhead} gains anything: Deno compiles a kernel when it is created, and software adapters compile
   * plain ones quickly.
   */
  get compilesAhead(): boolean {
    return !this.kernels.plain && this.settings.description.source !== "deno";
  }

  /**
   * Compiles the kernels that work would run, several at once where the source of devices can, and runs nothing. Work
   * that throws, and kernels that do not compile, are left out.
   *
   * @param works record without waiting; their tensors belong to scopes of their own
   * @param memory "none": their tensors have no memory. This is for work that leaves nothing behind that is used later
   * @param waits whether the caller does nothing meanwhile, so that this thread may compile, too
   */
  async compileAhead(
    works: Iterable<() => unknown>,
    memory: "taken" | "none" = "taken",
    waits = true,
  ): Promise<void> {
    const listing = this.#recorder.listing = new Set();
    this.#takesMemory = memory === "taken";
    try {
      for (const work of works) {
        try {
          this.scope(() => void work());
        } catch {
          // It is reported when the work is done.
        }
      }
    } finally {
      this.#recorder.listing = undefined;
      this.#takesMemory = true;
    }
    await this.#recorder.pipelines.compileAhead(listing, waits && this.settings.description.source === "dawn");
  }

  /** Whether {@link compileAhead} runs work now, whose kernels do not run: tensors keep what they had. */
  get lists(): boolean {
    return this.#recorder.listing !== undefined;
  }

  /** Copies the numbers of `from` into `to`, which must have the same size. No tape records it, so it has no gradient. */
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
    this.submit();
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
      if (!(error instanceof Error) || !this.#reset(compiled)) throw error;
      return error;
    }
  }

  /**
   * What caused an error that was thrown while work was recorded: a refused allocation is reported late, and what uses its
   * buffer may fail before.
   */
  async causeOf(error: unknown): Promise<unknown> {
    if (this.usable || error instanceof TilereelError) return error;
    await lateReports();
    return this.#failure.refusal ?? error;
  }

  /**
   * Makes the device work again after an error, such as a refused allocation. Whatever the failed work made must have
   * been freed, as leaving its scopes does. Recorded work is dropped, and kernels are compiled again.
   *
   * @returns false where the device is lost, or a tensor without memory is still in use: it must be opened again
   */
  async recover(): Promise<boolean> {
    if (this.usable) return true;
    // The failed work may cause more errors, which are reported by the time it is done.
    await this.device.queue.onSubmittedWorkDone().catch(() => {/* a lost device */});
    await lateReports();
    return !this.#memory.holdsRefused && this.#reset(new Set());
  }

  /**
   * Submits, and waits until the device is done. Work that is recorded meanwhile is not waited for.
   *
   * @throws {TilereelError} when the device was lost or memory ran out since the last wait
   */
  async finish(): Promise<void> {
    if (this.usable) await this.#recorder.done().catch(() => {/* a lost device: #failure says so below */});
    await lateReports();
    this.#failure.check();
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
      // Requested at once, because Deno checks every 10 ms what is done, and would otherwise wait twice.
      const mapped = staging.mapAsync(GPUMapMode.READ);
      mapped.catch(() => {/* reported below */});
      await finished;
      try {
        await mapped;
        return staging.getMappedRange().slice(0);
      } catch (error) {
        // If the device is lost, this throws the error that says so.
        await this.finish();
        throw error;
      }
    } finally {
      staging.destroy();
    }
  }

  /** The index of the counter in which `castInto` counts the numbers of a weight that f16 cannot hold. */
  clampCounter(name: string): number {
    return this.#clamps.counterOf(name);
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
    this.#failure.close();
    this.device.destroy();
  }

  protected override free(tensor: Tensor): void {
    if (!this.#unbacked.has(tensor.buffer)) this.#memory.release(tensor.buffer);
  }

  /** Stands for a buffer where nothing will run. */
  #withoutMemory(): GPUBuffer {
    const buffer = {} as GPUBuffer;
    this.#unbacked.add(buffer);
    return buffer;
  }

  /** Forgets an error, the recorded work, and all kernels but those. */
  #reset(compiled: ReadonlySet<KernelSource>): boolean {
    if (!this.#failure.forget()) return false;
    this.#recorder.discard();
    this.#recorder.pipelines.keepOnly(compiled);
    this.trim(); // frees what the failed work allocated
    return true;
  }
}

/** Lets the late reports of lost devices and refused allocations arrive. */
function lateReports(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
