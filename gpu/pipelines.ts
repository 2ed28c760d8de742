import { type KernelSource, kernelWgsl, type WgslDialect } from "./kernel.ts";
import type { Tensor } from "./tensor.ts";

/** The number of storage buffers of a kernel that every adapter allows; Dawn and OpenGL have no more. */
const MAX_STORAGE_BUFFERS = 16;
/** The number of bind groups that are cached. A forward pass of Wan 1.3B needs some hundreds. */
const MAX_GROUPS = 8192;

/**
 * The threads with which Dawn compiles the kernels of a device, however many cores there are. On native Deno, none does:
 * nothing is compiled ahead there.
 */
const COMPILING_THREADS = 2;
/** Kernels of matrix units take NVIDIA's compiler so many times as long as others of the same length. */
const MATRIX_COST = 4;

interface Pipeline {
  readonly id: number;
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  /** The size of its uniform block in bytes. */
  readonly paramBytes: number;
  /** The names of its buffers, in binding order. */
  readonly names: readonly string[];
}

/**
 * A cache of compiled pipelines and bind groups. The key is the identity of the kernel source, so callers must reuse
 * one object per variant.
 */
export class Pipelines {
  readonly #pipelines = new Map<KernelSource, Pipeline>();
  readonly #groups = new Map<string, GPUBindGroup>();
  readonly #ids = new WeakMap<GPUBuffer, number>();
  #nextId = 0;

  /** @param params holds the uniform blocks of a submission; each dispatch binds its own block by an offset. */
  constructor(
    private readonly device: GPUDevice,
    private readonly dialect: WgslDialect,
    private readonly params: GPUBuffer,
  ) {}

  /** Compiles a kernel the first time, then returns it from the cache. */
  get(kernel: KernelSource): Pipeline {
    let pipeline = this.#pipelines.get(kernel);
    if (!pipeline) this.#pipelines.set(kernel, pipeline = this.#compile(kernel));
    return pipeline;
  }

  /**
   * Compiles kernels, several at once where the WebGPU implementation can. One that does not compile is left out:
   * {@link get} then reports why.
   *
   * @param helps whether this thread compiles some of them, too
   */
  async compileAhead(kernels: Iterable<KernelSource>, helps: boolean): Promise<void> {
    const left = [...kernels].filter((kernel) => !this.#pipelines.has(kernel)).sort((a, b) => costOf(b) - costOf(a));
    const own = helps ? shareOf(left) : new Set<KernelSource>();
    const others = left.filter((kernel) => !own.has(kernel)).map((kernel) =>
      this.#add(kernel, (descriptor) => this.device.createComputePipelineAsync(descriptor))
    );
    // These come last, because nothing else begins while one is compiled, and one by one, so that signals and messages
    // are heard in between.
    for (const kernel of own) await this.#add(kernel, (descriptor) => this.device.createComputePipeline(descriptor));
    await Promise.all(others);
  }

  /** Compiles a kernel in some way. What goes wrong is told to nobody, and the kernel is left out. */
  async #add(
    kernel: KernelSource,
    compile: (descriptor: GPUComputePipelineDescriptor) => GPUComputePipeline | Promise<GPUComputePipeline>,
  ): Promise<void> {
    // A driver that refuses a kernel is an internal error.
    const scopes = ["validation", "internal"] as const;
    for (const filter of scopes) this.device.pushErrorScope(filter);
    let prepared, compiling;
    try {
      prepared = this.#prepare(kernel);
      compiling = Promise.resolve(compile(prepared.descriptor)).catch(() => undefined);
    } catch {
      // The scopes are taken off below.
    }
    // A lost device has no scopes. What is recorded next says so.
    const errors = scopes.map(() => this.device.popErrorScope().catch(() => undefined)), pipeline = await compiling;
    const isWrong = (await Promise.all(errors)).some((error) => error);
    if (isWrong || !prepared || !pipeline) return;
    const { descriptor: _, ...made } = prepared;
    this.#pipelines.set(kernel, { ...made, pipeline });
  }

  /**
   * Binds a tensor to each buffer that the kernel declares. Making a bind group takes longer than the rest of
   * recording a dispatch. Memory is handed out in the same order at every step, so bind groups are cached.
   */
  bind(kernel: KernelSource, tensors: Readonly<Record<string, Tensor>>): GPUBindGroup {
    const { id, layout, names, paramBytes } = this.get(kernel);
    let key = String(id);
    for (const name of names) {
      const tensor = tensors[name];
      if (!tensor) throw new Error(`kernel ${kernel.name}: buffer ${name} is missing`);
      key += ` ${this.#idOf(tensor.buffer)} ${tensor.offset} ${tensor.bytes}`;
    }
    let group = this.#groups.get(key);
    if (group) return group;
    const entries: GPUBindGroupEntry[] = [{ binding: 0, resource: { buffer: this.params, size: paramBytes } }];
    for (const name of names) {
      const { buffer, offset, bytes } = tensors[name]!;
      // Kernels read whole vec4s at the end of a row; buffer sizes are rounded up, so there is room.
      const size = Math.min(Math.ceil(bytes / 16) * 16, buffer.size - offset);
      entries.push({ binding: entries.length, resource: { buffer, offset, size } });
    }
    if (this.#groups.size === MAX_GROUPS) this.#groups.clear();
    this.#groups.set(key, group = this.device.createBindGroup({ layout, entries }));
    return group;
  }

  /** Drops all cached bind groups, because some of their buffers will be destroyed. */
  unbind(): void {
    this.#groups.clear();
  }

  /** The kernels that are compiled now. */
  kernels(): Set<KernelSource> {
    return new Set(this.#pipelines.keys());
  }

  /** Drops all kernels but these; the others may have failed to compile. */
  keepOnly(kernels: ReadonlySet<KernelSource>): void {
    for (const kernel of this.#pipelines.keys()) if (!kernels.has(kernel)) this.#pipelines.delete(kernel);
    this.unbind();
  }

  #idOf(buffer: GPUBuffer): number {
    let id = this.#ids.get(buffer);
    if (id === undefined) this.#ids.set(buffer, id = this.#nextId++);
    return id;
  }

  #compile(kernel: KernelSource): Pipeline {
    const { descriptor, ...made } = this.#prepare(kernel);
    return { ...made, pipeline: this.device.createComputePipeline(descriptor) };
  }

  #prepare(kernel: KernelSource): Omit<Pipeline, "pipeline"> & { readonly descriptor: GPUComputePipelineDescriptor } {
    const names = Object.keys(kernel.buffers);
    if (names.length > MAX_STORAGE_BUFFERS) throw new Error(`kernel ${kernel.name}: ${names.length} storage buffers`);
    const buffers: GPUBufferBindingLayout[] = [
      { type: "uniform", hasDynamicOffset: true },
      ...Object.values(kernel.buffers).map(({ access }): GPUBufferBindingLayout => ({
        type: access === "read" ? "read-only-storage" : "storage",
      })),
    ];
    // The layout is explicit, because "auto" would drop a buffer that a variant declares and never reads.
    const layout = this.device.createBindGroupLayout({
      entries: buffers.map((buffer, binding) => ({ binding, visibility: GPUShaderStage.COMPUTE, buffer })),
    });
    const descriptor: GPUComputePipelineDescriptor = {
      label: kernel.name,
      layout: this.device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: {
        module: this.device.createShaderModule({ label: kernel.name, code: kernelWgsl(kernel, this.dialect) }),
        entryPoint: "main",
      },
    };
    const paramBytes = Math.max(16, Object.keys(kernel.params).length * 4);
    return { id: this.#nextId++, descriptor, layout, paramBytes, names };
  }
}

/** About how long a kernel compiles, in no unit. */
function costOf({ declarations = "", body, matrix = false }: KernelSource): number {
  return (declarations.length + body.length) * (matrix ? MATRIX_COST : 1);
}

/**
 * The kernels that one more thread compiles, so that all end at about the same time.
 *
 * @param kernels those that take longest first
 */
function shareOf(kernels: readonly KernelSource[]): Set<KernelSource> {
  const costs = Array<number>(COMPILING_THREADS + 1).fill(0), own = new Set<KernelSource>();
  for (const kernel of kernels) {
    const least = costs.indexOf(Math.min(...costs));
    costs[least]! += costOf(kernel);
    if (least === COMPILING_THREADS) own.add(kernel);
  }
  return own;
}
