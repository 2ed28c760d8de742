import { keptKernels, withVariables } from "../common/environment.ts";
import { ALL_FEATURES, type DeviceSource } from "../device/source.ts";
import { loadDawn } from "./dawn_addon.ts";

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

/** One instance per process, because its devices cannot outlive it. */
let instance: GPU | undefined;

/**
 * The device source of Dawn, Chrome's WebGPU implementation. It is optional, and loaded only when the user asks for it.
 * Its compiler makes faster code than Deno's own, and it offers matrix units.
 */
export const dawn: DeviceSource = {
  name: "dawn",
  dialect: "standard",
  backends: [],
  features: ALL_FEATURES,
  requestAdapter(options) {
    return withVariables(keptKernels(), () => {
      instance ??= loadDawn().create([
        `backend=${BACKENDS[Deno.build.os] ?? "vulkan"}`,
        `enable-dawn-features=${TOGGLES.join(",")}`,
        `disable-dawn-features=${WITHOUT.join(",")}`,
      ]);
      return instance.requestAdapter(options);
    });
  },
  // `description` is the driver's name. `device` is the GPU's own name, in lower case with dashes.
  adapterName({ description, device, vendor }) {
    const gpu = device.replace(/-+$/, "") || vendor || "unnamed adapter";
    return description ? `${gpu} (${description})` : gpu;
  },
  noAdapter: () =>
    "Dawn found no adapter: install a driver for your GPU (on Linux, one for Vulkan; Mesa 25's software renderer works, " +
    "but Debian 12's is too old), or leave out --gpu dawn",
};
