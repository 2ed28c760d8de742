/**
 * `navigator.gpu` of any host, as the standard has it.
 *
 * @module
 */
import { TilereelError } from "../common/errors.ts";
import { ALL_FEATURES, type DeviceSource } from "./source.ts";

/** The device source of browsers. Deno has it, too, without what only Deno has: its choice of backends, and subgroups. */
export const browser: DeviceSource = {
  name: "browser",
  dialect: "standard",
  backends: [],
  features: ALL_FEATURES,
  requestAdapter(options) {
    if (!navigator.gpu) throw new TilereelError("this browser has no WebGPU: use one that has it, over https");
    return navigator.gpu.requestAdapter(options);
  },
  // Browsers often give no more than vendor and architecture, and Deno gives the description alone.
  adapterName: ({ description, device, vendor, architecture }) =>
    description || device || [vendor, architecture].filter(Boolean).join(" ") || "unnamed adapter",
  noAdapter: () => "the browser offers no WebGPU adapter: turn on hardware acceleration, or use another browser",
};
