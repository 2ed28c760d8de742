/**
 * Deno's own WebGPU (wgpu): always there, and the default.
 *
 * @module
 */
import { TilereelError } from "../common/errors.ts";
import type { DeviceSource } from "./source.ts";

const NO_ADAPTER = "no WebGPU adapter was found: install a Vulkan driver for your GPU, " +
  "or software rendering (on Debian and Ubuntu: apt install libegl1 libgl1-mesa-dri)";

const NO_ADAPTER_OVER = {
  vulkan: "no Vulkan adapter was found: install a Vulkan driver for your GPU, or software rendering " +
    "(on Debian and Ubuntu: apt install libvulkan1 mesa-vulkan-drivers), or leave out --gpu vulkan",
  gl: "no OpenGL adapter was found: install an OpenGL driver for your GPU, or software rendering " +
    "(on Debian and Ubuntu: apt install libegl1 libgl1-mesa-dri), or leave out --gpu gl",
};

/** The device source that uses Deno's built-in WebGPU. */
export const deno: DeviceSource = {
  name: "deno",
  backends: ["vulkan", "gl"],
  features: [{ name: "shader-f16" }, { name: "subgroups", unlisted: true }, { name: "timestamp-query" }],
  implementation(backend) {
    if (!navigator.gpu) throw new TilereelError("this runtime has no WebGPU: use Deno 2.9 or later");
    // Deno chooses its backends once, when the first adapter is requested.
    if (backend !== undefined) Deno.env.set("DENO_WEBGPU_BACKEND", backend);
    return navigator.gpu;
  },
  adapterName: ({ description, device, vendor }) => description || device || vendor || "unnamed adapter",
  noAdapter: (backend) => backend === undefined ? NO_ADAPTER : NO_ADAPTER_OVER[backend],
};
