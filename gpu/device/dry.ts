import { Gpu, type GpuSettings } from "../gpu.ts";
import type { WgslDialect } from "../kernel.ts";
import { type KernelKind, kernelKind } from "../kernel_picker.ts";
import { choosePrecision, type Operands, type Precision } from "../precision.ts";
import type { MatrixUnits } from "../matrix_units.ts";
import type { AdapterDescription } from "./adapter.ts";

/** The device that {@link dryGpu} should imitate. */
export interface DryGpuOptions {
  /** Default: the limits of an NVIDIA card under Deno's WebGPU. */
  readonly limits?: Partial<typeof LIMITS>;
  readonly precision?: Operands;
  /** See `GpuSettings.int8`. */
  readonly int8?: boolean;
  /** Default: "tiled", or with f16 and matrix units "matrix". */
  readonly kernels?: KernelKind;
  readonly matrixUnits?: MatrixUnits;
  /** Default: "naga". */
  readonly dialect?: WgslDialect;
  /** Invocations in a subgroup. Default: the device has no subgroups. */
  readonly subgroup?: number;
  /** Limit in bytes; see `OpenGpuOptions.memoryLimit`. */
  readonly memoryLimit?: number;
  /** Called for every buffer that is made for tensors, and when it is destroyed. */
  readonly onBuffer?: (event: { readonly label: string; readonly size: number; readonly made: boolean }) => void;
  /** Called for every kernel that is compiled, with its name and its whole WGSL module. */
  readonly onModule?: (name: string, wgsl: string) => void;
}

/** The matrix units of NVIDIA's cards, as Dawn reports them. */
export const NVIDIA_MATRIX_UNITS: MatrixUnits = {
  ...{ m: 16, n: 16, k: 16, subgroup: 32 },
  int8: { m: 16, n: 16, k: 32 },
};

/** The limits of NVIDIA's cards under Vulkan. */
const LIMITS = {
  maxBufferSize: 4 * 2 ** 30,
  maxStorageBufferBindingSize: 2 * 2 ** 30 - 4,
  maxStorageBuffersPerShaderStage: 16,
  maxComputeInvocationsPerWorkgroup: 1024,
  maxComputeWorkgroupSizeX: 1024,
  maxComputeWorkgroupStorageSize: 48 * 2 ** 10,
};

/**
 * Opens a device that computes nothing and stores nothing; every result reads as zeros. `Gpu` counts memory on it as on
 * any other device, so the memory that work needs can be counted exactly, on any machine, in no time.
 */
export function dryGpu(options: DryGpuOptions = {}): Gpu {
  const { precision = "f32", matrixUnits, dialect = "naga", memoryLimit = Infinity } = options;
  const limits = { ...LIMITS, ...options.limits };
  const description: AdapterDescription = {
    name: "dry",
    identity: "dry",
    source: "dry",
    vendor: "",
    software: false,
    features: options.subgroup === undefined ? [] : ["subgroups"],
    limits,
    matrixUnits,
  };
  return new Gpu(dryDevice(limits, options), {
    description,
    dialect,
    kernels: options.kernels ?? kernelKind(description, precision),
    precision,
    int8: options.int8 ?? false,
    precisionReason: "as asked",
    memoryLimit,
    dry: true,
  });
}

/** What is to be other than on the device that {@link dryTwin} imitates. */
export interface TwinOptions extends Pick<DryGpuOptions, "memoryLimit" | "onBuffer"> {
  /** Default: that of the device */
  readonly precision?: Precision | undefined;
}

/**
 * Opens a dry device with the adapter, the limits and the kernels of an open one, to count what work would take there.
 *
 * @throws {TilereelError} if the adapter cannot have that precision
 */
export function dryTwin({ device, settings, precision: own }: Gpu, options: TwinOptions = {}): Gpu {
  const { precision = own, memoryLimit = settings.memoryLimit, onBuffer } = options, { description } = settings;
  const change = () => {
    const { why, ...chosen } = choosePrecision(precision, description);
    return { int8: false, ...chosen, kernels: kernelKind(description, chosen.precision), precisionReason: why };
  };
  const { limits, features, adapterInfo } = device;
  return new Gpu(dryDevice(limits, { ...onBuffer && { onBuffer } }, { features, adapterInfo }), {
    ...{ ...settings, ...precision !== own && change(), memoryLimit },
    ...{ dry: true, checkBounds: false, tuningStore: undefined },
  });
}

/** What is known of an open device. It can be posted to another thread, which counts there: see {@link dryGpuOf}. */
export interface GpuFacts {
  readonly settings: Omit<GpuSettings, "tuningStore">;
  readonly limits: Readonly<Record<keyof typeof LIMITS, number>>;
  readonly features: readonly string[];
  /** Invocations in a subgroup. */
  readonly subgroups: Readonly<Record<"subgroupMinSize" | "subgroupMaxSize", number | undefined>>;
}

/** What is known of an open device. */
export function gpuFacts({ device, settings: { tuningStore: _, ...settings } }: Gpu): GpuFacts {
  const { subgroupMinSize, subgroupMaxSize } = device.adapterInfo, limits = { ...LIMITS };
  for (const name of Object.keys(LIMITS) as (keyof typeof LIMITS)[]) limits[name] = device.limits[name];
  return { settings, limits, features: [...device.features], subgroups: { subgroupMinSize, subgroupMaxSize } };
}

/** Opens a dry device that is like an open one of another thread. */
export function dryGpuOf({ settings, limits, features, subgroups }: GpuFacts): Gpu {
  const like = { features: new Set(features), adapterInfo: subgroups as GPUAdapterInfo };
  return new Gpu(dryDevice(limits, {}, like), { ...settings, dry: true, checkBounds: false });
}

/** The part of `GPUDevice` that `Gpu` and its memory use. */
function dryDevice(
  limits: Partial<GPUSupportedLimits>,
  { subgroup, onBuffer = () => {}, onModule }: DryGpuOptions,
  like?: Pick<GPUDevice, "features" | "adapterInfo">,
): GPUDevice {
  const nothing = () => {};
  const pass = { setPipeline: nothing, setBindGroup: nothing, dispatchWorkgroups: nothing, end: nothing };
  const device = {
    limits,
    features: new Set(subgroup === undefined ? [] : ["subgroups"]),
    adapterInfo: { subgroupMinSize: subgroup, subgroupMaxSize: subgroup },
    ...like,
    lost: new Promise<never>(nothing),
    queue: { writeBuffer: nothing, submit: nothing, onSubmittedWorkDone: () => Promise.resolve() },
    createBuffer: ({ label = "", size, usage }: GPUBufferDescriptor) => {
      // Uniform buffers and read-back buffers hold no tensors.
      const counted = (usage & GPUBufferUsage.STORAGE) !== 0;
      if (counted) onBuffer({ label, size, made: true });
      return {
        label,
        size,
        destroy: () => counted && onBuffer({ label, size, made: false }),
        mapAsync: () => Promise.resolve(),
        getMappedRange: () => new ArrayBuffer(size),
      };
    },
    createBindGroup: () => ({}),
    createBindGroupLayout: () => ({}),
    createPipelineLayout: () => ({}),
    createShaderModule: ({ label = "", code }: GPUShaderModuleDescriptor) => (onModule?.(label, code), {}),
    createComputePipeline: () => ({ getBindGroupLayout: nothing }),
    createComputePipelineAsync: () => Promise.resolve({ getBindGroupLayout: nothing }),
    createCommandEncoder: () => ({ beginComputePass: () => pass, copyBufferToBuffer: nothing, finish: () => ({}) }),
    addEventListener: nothing,
    pushErrorScope: nothing,
    popErrorScope: () => Promise.resolve(null),
    destroy: nothing,
  };
  return device as unknown as GPUDevice;
}
