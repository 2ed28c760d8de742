/**
 * Dawn, Chrome's WebGPU, as the Node-API addon of the npm package `webgpu`: optional, and touched only when it is asked
 * for. Its compiler makes faster code than Deno's own, and it has tensor cores.
 *
 * The addon is loaded as a file, never as a package: Deno would note the package in `deno.lock`, and every fresh clone
 * would download its 51 MB.
 *
 * @module
 */
import { statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { variable } from "../common/environment.ts";
import { TilereelError } from "../common/errors.ts";
import { MATRIX_FEATURE } from "../matrix_units.ts";
import type { DeviceSource } from "./source.ts";

/** The environment variable with the path of the addon. Without it, the package is resolved as Node does. */
export const DAWN_VARIABLE = "TILEREEL_DAWN";

/** The name of the folder in the package for this operating system and CPU. */
export const DAWN_FOLDER = join(
  "dist",
  Deno.build.os === "darwin"
    ? "darwin-universal"
    : `${Deno.build.os === "windows" ? "win32" : Deno.build.os}-${Deno.build.arch === "aarch64" ? "arm64" : "x64"}`,
);
const ADDON = join(DAWN_FOLDER, "dawn.node");

/**
 * Dawn's toggles. They allow experimental features and f16 on NVIDIA. They turn off the clamping of indices, which
 * costs registers and 5 to 15 % of the time on NVIDIA. That is safe because tests check that no kernel has an index out
 * of bounds (`bounds/rewrite.ts`), and because tilereel runs no WGSL but its own.
 */
const TOGGLES = ["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia", "disable_robustness"];

/** Toggles that are turned off. Timestamps would be rounded to 65 µs, longer than many kernels take. */
const WITHOUT = ["timestamp_quantization"];

/** The one graphics API to use on each system; the others only add warnings. */
const BACKENDS: Readonly<Partial<Record<typeof Deno.build.os, string>>> = { darwin: "metal", windows: "d3d12" };

/** The part of the addon's exports that is used. */
interface Addon {
  create(options: string[]): GPU;
}

/** One instance per process, because its devices cannot outlive it. */
let instance: GPU | undefined;

/** The device source that uses the optional Dawn addon. */
export const dawn: DeviceSource = {
  name: "dawn",
  backends: [],
  features: [
    { name: "shader-f16" },
    { name: "subgroups" },
    { name: "timestamp-query" },
    { name: MATRIX_FEATURE },
  ],
  implementation() {
    if (instance) return instance;
    const addon = load();
    pollByTimer();
    return instance = addon.create([
      `backend=${BACKENDS[Deno.build.os] ?? "vulkan"}`,
      `enable-dawn-features=${TOGGLES.join(",")}`,
      `disable-dawn-features=${WITHOUT.join(",")}`,
    ]);
  },
  // `description` is the driver's name. `device` is the GPU's own name, in lower case with dashes.
  adapterName({ description, device, vendor }) {
    const gpu = device.replace(/-+$/, "") || vendor || "unnamed adapter";
    return description ? `${gpu} (${description})` : gpu;
  },
  noAdapter: () =>
    "Dawn found no adapter: install a driver for your GPU (on Linux one for Vulkan; software rendering by Mesa 25 does, " +
    "that of Debian 12 is too old), or leave out --gpu dawn",
};

/** Milliseconds between two checks whether the GPU is done. */
const POLL_MS = 1;

/**
 * While the GPU works, the addon polls it in every turn of the event loop, through a native function that it creates
 * anew each time: about fifty per millisecond. Collecting ten thousand of these stops Deno 2.9.6 for more than a
 * second. So callbacks that are native functions wait for a timer. All others run immediately, as before.
 */
function pollByTimer(): void {
  const immediately = globalThis.setImmediate;
  const native = (callback: unknown) => Function.prototype.toString.call(callback).endsWith("{ [native code] }");
  const replacement = (callback: (...args: unknown[]) => void, ...args: unknown[]) =>
    native(callback) ? setTimeout(callback, POLL_MS, ...args) : immediately(callback, ...args);
  globalThis.setImmediate = replacement as typeof setImmediate;
}

/** The path of the addon that {@link dawn} would load, or undefined. */
export function dawnAddon(): string | undefined {
  const named = variable(DAWN_VARIABLE);
  if (named) return resolve(named);
  let folder = import.meta.dirname;
  while (folder !== undefined) {
    const path = join(folder, "node_modules", "webgpu", ADDON);
    if (isFile(path)) return path;
    folder = dirname(folder) === folder ? undefined : dirname(folder);
  }
  return undefined;
}

function load(): Addon {
  const path = dawnAddon();
  if (path === undefined) {
    throw new TilereelError(
      '--gpu dawn needs the npm package webgpu, which is not installed: run "deno task dawn" in tilereel\'s checkout, ' +
        `or set ${DAWN_VARIABLE} to the path of that package's ${ADDON}`,
    );
  }
  if (!isFile(path)) throw new TilereelError(`${DAWN_VARIABLE} names ${path}, which is no file: name Dawn's dawn.node`);
  let addon: Partial<Addon>;
  try {
    addon = createRequire(import.meta.url)(path);
  } catch (cause) {
    const [reason] = (cause instanceof Error ? cause.message : String(cause)).split("\n");
    throw new TilereelError(
      `Dawn could not be loaded from ${path} (${reason}): it must be the dawn.node for this system, ` +
        `${ADDON} in the npm package webgpu`,
    );
  }
  if (typeof addon.create !== "function") {
    throw new TilereelError(`${path} is not Dawn: name the dawn.node of the npm package webgpu in ${DAWN_VARIABLE}`);
  }
  return addon as Addon;
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}
