/**
 * Lists and describes the adapters of given sources, and opens one. It runs in browsers, too; `native/open.ts` adds the
 * sources that need Deno.
 *
 * @module
 */
import {
  aFlag,
  aFunction,
  aText,
  check,
  checkOptions,
  either,
  type Kinds,
  listOf,
  objectWith,
  oneOf,
} from "./common/check_options.ts";
import { quoted, TilereelError } from "./common/errors.ts";
import type { AdapterDescription } from "./device/adapter.ts";
import { browser } from "./device/browser.ts";
import type { DeviceSource, WantedFeature } from "./device/source.ts";
import { Gpu } from "./gpu.ts";
import { kernelKind } from "./kernel_picker.ts";
import { MATRIX_FEATURE, matrixUnits } from "./matrix_units.ts";
import { choosePrecision, type Precision, PRECISIONS } from "./precision.ts";
import type { TuningStore } from "./tuning/choices.ts";
import { TUNE_KINDS, tuneKernels, type TuneOptions, useRemembered } from "./tuning/tune.ts";

/** The limits that decide what fits, in the order they are shown. */
const SHOWN_LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
] as const satisfies readonly (keyof GPUSupportedLimits)[];

/** The limits that are requested of a device. */
const WANTED_LIMITS = [...SHOWN_LIMITS, "maxComputeWorkgroupSizeX"] as const;

const SOURCES: readonly DeviceSource[] = [browser];

/** Options of {@link openGpu}. */
export interface OpenGpuOptions {
  /**
   * "auto", "software", the name of a backend ("vulkan", "gl"), a part of an adapter's name, or its number in
   * {@linkcode listAdapters}, from 1; or the name of a source and one of these: "dawn", "dawn:software", "dawn:2".
   */
  readonly choice?: string;
  /** Where devices come from; the first is the default. Default: what `navigator.gpu` has. */
  readonly sources?: readonly DeviceSource[];
  /**
   * "f16" holds matrix operands in 16 bits, and "int8" those of the blocks' layers in 8; see {@link Precision}. Default
   * "auto": f16 on every GPU that has it, f32 on software.
   */
  readonly precision?: Precision | "auto";
  /**
   * Makes a trial of the adapter's kernels first, unless one is remembered; see {@link tuneKernels}. Without it, the
   * kernels are those of an earlier trial or the shipped defaults.
   */
  readonly tune?: boolean | TuneOptions;
  /** Where the results of trials are remembered. Undefined: nowhere. */
  readonly tuningStore?: TuningStore | undefined;
  /**
   * The most bytes of GPU memory that tilereel may hold at once. Without it there is no limit, and plans assume 8 GB.
   */
  readonly memoryLimit?: number;
  /** For tests; see `GpuSettings.checkBounds`. */
  readonly checkBounds?: boolean;
}

const OPEN_KINDS: Kinds<OpenGpuOptions> = {
  choice: aText,
  sources: listOf(objectWith("a source of devices", { requestAdapter: aFunction }), "a list of sources of devices"),
  precision: oneOf(PRECISIONS),
  tune: either(aFlag, objectWith("an object of options", {})),
  tuningStore: objectWith("a store of texts by key", { get: aFunction, set: aFunction }),
  memoryLimit: { expected: "a number of bytes above 0", fits: (value) => typeof value === "number" && value > 0 },
  checkBounds: aFlag,
};

/**
 * Lists the adapters of one source, best first. A device is opened on each, to see which features and limits it grants.
 *
 * @param choice see {@link OpenGpuOptions.choice}: names of sources and backends say where to look
 * @throws {TilereelError} when the source that was asked for is not there
 */
export async function listAdapters(
  choice = "auto",
  sources: readonly DeviceSource[] = SOURCES,
): Promise<AdapterDescription[]> {
  check("listAdapters: choice", choice, aText);
  const { source, backend } = parseChoice(choice, sources);
  const descriptions: AdapterDescription[] = [];
  for (const found of await findAdapters(source, backend)) {
    const device = await openDevice(source, found);
    descriptions.push(describe(source, found, device));
    device.destroy();
  }
  return descriptions;
}

/**
 * Finds the adapter that `choice` means, among adapters that were listed with it, best first.
 *
 * @throws {TilereelError} when none matches
 */
export function chooseAdapter<A extends Pick<AdapterDescription, "name" | "software">>(
  adapters: readonly A[],
  choice: string,
  sources: readonly DeviceSource[] = SOURCES,
): A {
  const { source, backend, name } = parseChoice(choice, sources);
  if (adapters.length === 0) throw new TilereelError(source.noAdapter(backend));
  const chosen = /^\d+$/.test(name)
    // A number is never a part of a name: most names contain "1".
    ? adapters[Number(name) - 1]
    : adapters.find((adapter) =>
      name === "auto" ||
      (name === "software" ? adapter.software : adapter.name.toLowerCase().includes(name.toLowerCase()))
    );
  if (chosen) return chosen;
  const names = adapters.map(({ name }, i) => `"${name}" (${i + 1})`).join(", ");
  throw new TilereelError(
    `no GPU adapter fits ${quoted(choice)}: this machine has ${names}; give a number, a part of a name, or "auto"`,
  );
}

/**
 * Opens the best adapter, or the one asked for.
 *
 * @throws {TilereelError} when there is no adapter, none fits `choice`, or it cannot do what was asked
 */
export async function openGpu(options: OpenGpuOptions = {}): Promise<Gpu> {
  checkOptions("openGpu", options, OPEN_KINDS);
  if (typeof options.tune === "object") checkOptions("openGpu: tune", options.tune, TUNE_KINDS);
  const { choice = "auto", sources = SOURCES, precision: asked = "auto", memoryLimit = Infinity, tune = false } =
    options;
  const { tuningStore, checkBounds = false } = options;
  const { source, backend } = parseChoice(choice, sources);
  const chosen = chooseAdapter(await findAdapters(source, backend), choice, sources);
  const device = await openDevice(source, chosen);
  const description = describe(source, chosen, device);
  try {
    const { why, ...precision } = choosePrecision(asked, description);
    const gpu = new Gpu(device, {
      ...{ description, dialect: source.dialect, kernels: kernelKind(description, precision.precision) },
      ...precision,
      ...{ precisionReason: why, memoryLimit, tuningStore, checkBounds },
    });
    await (tune ? tuneKernels(gpu, tune === true ? {} : tune) : useRemembered(gpu));
    return gpu;
  } catch (error) {
    device.destroy();
    throw error;
  }
}

/** Splits `choice` into where to look and which adapter: "auto", "software", a number, or a part of a name. */
function parseChoice(
  choice: string,
  sources: readonly DeviceSource[],
): { source: DeviceSource; backend: string | undefined; name: string } {
  const [prefix, rest] = choice.split(/:(.*)/s);
  const named = sources.find((source) => source.name === prefix);
  const source = named ?? sources[0]!;
  const name = named ? rest || "auto" : choice;
  const backend = source.backends.find((backend) => backend === name);
  return { source, backend, name: backend ? "auto" : name };
}

interface FoundAdapter {
  readonly adapter: GPUAdapter;
  readonly name: string;
  readonly software: boolean;
}

async function findAdapters(source: DeviceSource, backend: string | undefined): Promise<FoundAdapter[]> {
  const found = new Map<string, FoundAdapter>();
  const [fast, frugal] = [{ powerPreference: "high-performance" }, { powerPreference: "low-power" }] as const;
  for (const request of [fast, frugal, { forceFallbackAdapter: true }]) {
    const adapter = await source.requestAdapter(request, backend).catch(() => null);
    if (!adapter) continue;
    const name = source.adapterName(adapter.info);
    if (!found.has(name)) found.set(name, { adapter, name, software: isSoftware(adapter.info) });
  }
  const adapters = [...found.values()];
  return [...adapters.filter(({ software }) => !software), ...adapters.filter(({ software }) => software)];
}

function isSoftware({ isFallbackAdapter, description }: GPUAdapterInfo): boolean {
  return isFallbackAdapter || /llvmpipe|lavapipe|swiftshader|softpipe/i.test(description);
}

function describe(source: DeviceSource, { adapter, name, software }: FoundAdapter, device: GPUDevice) {
  const { vendor, architecture, device: model, description } = adapter.info;
  return {
    ...{ name, source: source.name, vendor, software },
    identity: [vendor, architecture, model, description].filter(Boolean).join(", "),
    features: source.features.map(({ name }) => name).filter((name) => device.features.has(name)),
    limits: Object.fromEntries(SHOWN_LIMITS.map((name) => [name, adapter.limits[name] as number])),
    matrixUnits: device.features.has(MATRIX_FEATURE) ? matrixUnits(adapter.info) : undefined,
  } satisfies AdapterDescription;
}

/** Opens a device with every limit the adapter has and every wanted feature it grants. */
async function openDevice(source: DeviceSource, { adapter, name }: FoundAdapter): Promise<GPUDevice> {
  const requiredLimits = Object.fromEntries(WANTED_LIMITS.map((limit) => [limit, adapter.limits[limit] as number]));
  const open = (wanted: readonly WantedFeature[]) =>
    adapter.requestDevice({ requiredLimits, requiredFeatures: wanted.map(({ name }) => name) });
  const listed = source.features.filter(({ name }) => adapter.features.has(name));
  const granted = source.features.filter(({ name, unlisted }) => unlisted || adapter.features.has(name));
  if (granted.length > listed.length) {
    const device = await open(granted).catch(() => null);
    if (device) return device;
  }
  return await open(listed).catch((cause) => {
    throw new TilereelError(`the GPU adapter ${name} could not be opened: ${cause.message}`);
  });
}
