/**
 * Where a `GPUDevice` comes from: the adapters of this machine, what they can do, and opening one.
 *
 * @module
 */
import { TilereelError } from "../errors.ts";
import { Gpu } from "./gpu.ts";

/** An adapter as it is shown to the user. */
export interface AdapterDescription {
  readonly name: string;
  readonly vendor: string;
  /** Runs on the CPU: slow, f32 only in places, no barriers wanted. */
  readonly software: boolean;
  /** Optional features tilereel can use that the adapter has. */
  readonly features: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
}

/** The limits that decide what fits, in the order they are shown. */
const SHOWN_LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
] as const satisfies readonly (keyof GPUSupportedLimits)[];

/** Features asked for where there are any. */
const WANTED_FEATURES = ["shader-f16", "timestamp-query"] as const satisfies readonly GPUFeatureName[];

const NO_ADAPTER = "no WebGPU adapter was found: install a Vulkan driver for your GPU, " +
  "or software rendering (on Debian and Ubuntu: apt install libegl1 libgl1-mesa-dri)";

const NO_ADAPTER_OVER: Readonly<Record<string, string>> = {
  vulkan: "no Vulkan adapter was found: install a Vulkan driver for your GPU, or software rendering " +
    "(on Debian and Ubuntu: apt install libvulkan1 mesa-vulkan-drivers), or leave out --gpu vulkan",
  gl: "no OpenGL adapter was found: install an OpenGL driver for your GPU, or software rendering " +
    "(on Debian and Ubuntu: apt install libegl1 libgl1-mesa-dri), or leave out --gpu gl",
};

/** What {@link openGpu} may be told. */
export interface OpenGpuOptions {
  /** "auto", "software", "vulkan", "gl", or a part of an adapter's name. */
  readonly choice?: string;
  /** "f16" holds matrix operands in 16 bits where the adapter can; sums stay in f32. */
  readonly precision?: Precision;
  /** Bytes of GPU memory tilereel may hold at once. Absent: what the adapter grants. */
  readonly memoryLimit?: number;
}

/** Number format of the operands of matrix products. */
export type Precision = "f32" | "f16";

/**
 * The adapters of this machine, best first.
 *
 * @param choice see {@link OpenGpuOptions.choice}: "vulkan" and "gl" restrict the list to one backend.
 */
export async function listAdapters(choice = "auto"): Promise<AdapterDescription[]> {
  return (await findAdapters(choice)).map(describe);
}

/**
 * Opens the best adapter, or the one asked for.
 *
 * @throws {TilereelError} when there is no adapter, none fits `choice`, or it cannot do what was asked
 */
export async function openGpu(options: OpenGpuOptions = {}): Promise<Gpu> {
  const { choice = "auto", precision = "f32" } = options;
  const adapters = await findAdapters(choice);
  if (adapters.length === 0) throw new TilereelError(NO_ADAPTER_OVER[choice] ?? NO_ADAPTER);
  const adapter = adapters.find((a) => fits(a, choice));
  if (!adapter) {
    const names = adapters.map((a) => `"${describe(a).name}"`).join(", ");
    throw new TilereelError(
      `no GPU adapter fits --gpu ${choice}: this machine has ${names}; name one of them or "auto"`,
    );
  }
  const description = describe(adapter);
  if (precision === "f16" && !adapter.features.has("shader-f16")) {
    throw new TilereelError(`${description.name} has no shader-f16, which precision f16 needs: use f32`);
  }
  const device = await openDevice(adapter);
  return new Gpu(device, {
    description,
    precision,
    memoryLimit: options.memoryLimit ?? Infinity,
  });
}

async function findAdapters(choice: string): Promise<GPUAdapter[]> {
  if (!navigator.gpu) throw new TilereelError("this runtime has no WebGPU: use Deno 2.9 or later");
  // Without a display server's runtime folder the drivers grumble on stderr, and need none to compute.
  if (!Deno.env.get("XDG_RUNTIME_DIR")) Deno.env.set("XDG_RUNTIME_DIR", "/tmp");
  // Deno picks its backends once, when the first adapter is asked for.
  if (choice === "vulkan" || choice === "gl") Deno.env.set("DENO_WEBGPU_BACKEND", choice);
  const found = new Map<string, GPUAdapter>();
  for (
    const request of [{ powerPreference: "high-performance" }, { powerPreference: "low-power" }, {
      forceFallbackAdapter: true,
    }] as const
  ) {
    const adapter = await navigator.gpu.requestAdapter(request).catch(() => null);
    if (adapter && !found.has(describe(adapter).name)) found.set(describe(adapter).name, adapter);
  }
  const adapters = [...found.values()];
  return [...adapters.filter((a) => !isSoftware(a)), ...adapters.filter(isSoftware)];
}

function fits(adapter: GPUAdapter, choice: string): boolean {
  if (choice === "auto" || choice === "vulkan" || choice === "gl") return true;
  if (choice === "software") return isSoftware(adapter);
  return describe(adapter).name.toLowerCase().includes(choice.toLowerCase());
}

function isSoftware(adapter: GPUAdapter): boolean {
  return adapter.info.isFallbackAdapter || /llvmpipe|lavapipe|swiftshader|softpipe/i.test(adapter.info.description);
}

function describe(adapter: GPUAdapter): AdapterDescription {
  const { info, limits } = adapter;
  return {
    name: info.description || info.device || info.vendor || "unnamed adapter",
    vendor: info.vendor,
    software: isSoftware(adapter),
    features: WANTED_FEATURES.filter((f) => adapter.features.has(f)),
    limits: Object.fromEntries(SHOWN_LIMITS.map((name) => [name, limits[name] as number])),
  };
}

/** Opens a device with every limit the adapter has and every wanted feature it grants. */
async function openDevice(adapter: GPUAdapter): Promise<GPUDevice> {
  const requiredLimits = Object.fromEntries(SHOWN_LIMITS.map((name) => [name, adapter.limits[name] as number]));
  const requiredFeatures = WANTED_FEATURES.filter((f) => adapter.features.has(f));
  return await adapter.requestDevice({ requiredLimits, requiredFeatures }).catch((cause) => {
    throw new TilereelError(`the GPU adapter ${describe(adapter).name} could not be opened: ${cause.message}`);
  });
}
