/**
 * Kernels compiled for a device, each once, and what they bind.
 *
 * @module
 */
import type { SourceName } from "./device/source.ts";
import { type KernelSource, kernelWgsl } from "./kernel.ts";
import type { Tensor } from "./tensor.ts";

/** Storage buffers of a kernel that every adapter allows: Dawn and OpenGL have no more. */
const MAX_STORAGE_BUFFERS = 16;
/** Bind groups that are remembered; a forward pass of Wan 1.3B has some hundreds. */
const MAX_GROUPS = 8192;

/** A compiled kernel. */
interface Pipeline {
  readonly id: number;
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  /** Bytes of its uniform block. */
  readonly paramBytes: number;
  /** Its buffers in binding order. */
  readonly names: readonly string[];
}

/**
 * A cache of compiled pipelines and bind groups. The key is the identity of the kernel source, so callers must reuse one
 * object per variant.
 */
export class Pipelines {
  readonly #pipelines = new Map<KernelSource, Pipeline>();
  readonly #groups = new Map<string, GPUBindGroup>();
  readonly #ids = new WeakMap<GPUBuffer, number>();
  #nextId = 0;

  /** @param params holds the uniform blocks of a submission; each dispatch binds its own by an offset. */
  constructor(
    private readonly device: GPUDevice,
    private readonly source: SourceName,
    private readonly params: GPUBuffer,
  ) {}

  /** Compiles a kernel, the first time. */
  get(kernel: KernelSource): Pipeline {
    let pipeline = this.#pipelines.get(kernel);
    if (!pipeline) this.#pipelines.set(kernel, pipeline = this.#compile(kernel));
    return pipeline;
  }

  /**
   * Binds a tensor to each buffer that the kernel declares. Making a bind group takes longer than all else that
   * recording a dispatch does, and memory is handed out again in the same order step after step: they are kept.
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
      // Whole vec4s are read where a row ends; the buffer's grain makes room for them.
      const size = Math.min(Math.ceil(bytes / 16) * 16, buffer.size - offset);
      entries.push({ binding: entries.length, resource: { buffer, offset, size } });
    }
    if (this.#groups.size === MAX_GROUPS) this.#groups.clear();
    this.#groups.set(key, group = this.device.createBindGroup({ layout, entries }));
    return group;
  }

  /** Lets go of all buffers that are bound: some of them will be destroyed. */
  unbind(): void {
    this.#groups.clear();
  }

  /** The kernels that are compiled now. */
  kernels(): Set<KernelSource> {
    return new Set(this.#pipelines.keys());
  }

  /** Forgets all kernels but these: others may not have compiled. */
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
    const names = Object.keys(kernel.buffers);
    if (names.length > MAX_STORAGE_BUFFERS) throw new Error(`kernel ${kernel.name}: ${names.length} storage buffers`);
    const buffers: GPUBufferBindingLayout[] = [
      { type: "uniform", hasDynamicOffset: true },
      ...Object.values(kernel.buffers).map(({ access }): GPUBufferBindingLayout => ({
        type: access === "read" ? "read-only-storage" : "storage",
      })),
    ];
    // Laid out by hand: "auto" would drop a buffer that a variant declares and never reads.
    const layout = this.device.createBindGroupLayout({
      entries: buffers.map((buffer, binding) => ({ binding, visibility: GPUShaderStage.COMPUTE, buffer })),
    });
    const pipeline = this.device.createComputePipeline({
      label: kernel.name,
      layout: this.device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: {
        module: this.device.createShaderModule({ label: kernel.name, code: kernelWgsl(kernel, this.source) }),
        entryPoint: "main",
      },
    });
    const paramBytes = Math.max(16, Object.keys(kernel.params).length * 4);
    return { id: this.#nextId++, pipeline, layout, paramBytes, names };
  }
}
