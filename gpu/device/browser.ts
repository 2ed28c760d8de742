import { TilereelError } from "../common/errors.ts";
import { ALL_FEATURES, type DeviceSource } from "./source.ts";

/**
 * `navigator.gpu` as the WebGPU standard specifies it, for browsers. It also works in Deno, but without the choice of
 * backends, and without subgroups.
 */
export const browser: DeviceSource = {
  name: "browser",
  dialect: "standard",
  backends: [],
  features: ALL_FEATURES,
  requestAdapter(options) {
    if (!navigator.gpu) throw new TilereelError("this browser has no WebGPU: use one that has it, over https");
    return navigator.gpu.requestAdapter(options);
  },
  // Many browsers give only vendor and architecture; Deno gives only the description.
  adapterName: ({ description, device, vendor, architecture }) =>
    description || device || [vendor, architecture].filter(Boolean).join(" ") || "unnamed adapter",
  noAdapter: () => "the browser offers no WebGPU adapter: turn on hardware acceleration, or use another browser",
};
