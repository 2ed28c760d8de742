import { keptKernels, variable, withVariables } from "../common/environment.ts";
import { TilereelError } from "../common/errors.ts";
import type { DeviceSource } from "../device/source.ts";

const NO_ADAPTER = "no WebGPU adapter was found: install a Vulkan driver for your GPU, " +
  "or software rendering (on Debian and Ubuntu: apt install libegl1 libgl1-mesa-dri)";

const NO_ADAPTER_OVER: Readonly<Record<string, string>> = {
  vulkan: "no Vulkan adapter was found: install a Vulkan driver for your GPU, or software rendering " +
    "(on Debian and Ubuntu: apt install libvulkan1 mesa-vulkan-drivers), or leave out --gpu vulkan",
  gl: "no OpenGL adapter was found: install an OpenGL driver for your GPU, or software rendering " +
    "(on Debian and Ubuntu: apt install libegl1 libgl1-mesa-dri), or leave out --gpu gl",
};

/** The device source of Deno's own WebGPU (wgpu), which is always there. */
export const deno: DeviceSource = {
  name: "deno",
  dialect: "naga",
  backends: Object.keys(NO_ADAPTER_OVER),
  features: [{ name: "shader-f16" }, { name: "subgroups", unlisted: true }, { name: "timestamp-query" }],
  requestAdapter(options, backend) {
    if (!navigator.gpu) throw new TilereelError("this runtime has no WebGPU: use Deno 2.9 or later");
    // Deno reads its variable when the first adapter of the process is requested, and keeps to it. The drivers print
    // warnings where a display server's runtime folder is not set, although they need none to compute.
    return withVariables({
      ...backend !== undefined && { DENO_WEBGPU_BACKEND: backend },
      ...!variable("XDG_RUNTIME_DIR") && { XDG_RUNTIME_DIR: "/tmp" },
      ...keptKernels(),
    }, () => navigator.gpu.requestAdapter(options));
  },
  adapterName: ({ description, device, vendor }) => description || device || vendor || "unnamed adapter",
  noAdapter: (backend) => NO_ADAPTER_OVER[backend ?? ""] ?? NO_ADAPTER,
};
