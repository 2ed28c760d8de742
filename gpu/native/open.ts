import type { AdapterDescription } from "../device/adapter.ts";
import type { DeviceSource } from "../device/source.ts";
import type { Gpu } from "../gpu.ts";
import { listAdapters as listAdaptersOf, openGpu as openGpuOf, type OpenGpuOptions } from "../open.ts";
import { dawn } from "./dawn.ts";
import { deno } from "./deno.ts";
import { tuningFile } from "./tuning_file.ts";

/** Where devices come from; the first is the default. */
export const SOURCES: readonly DeviceSource[] = [deno, dawn];

/** As `listAdapters` of `gpu/open.ts`, among the sources of this machine. */
export function listAdapters(choice?: string): Promise<AdapterDescription[]> {
  return listAdaptersOf(choice, SOURCES);
}

/**
 * Opens the best adapter of this machine, or the one asked for. The results of trials are remembered in the user's
 * cache folder.
 *
 * @throws {TilereelError} when there is no adapter, none fits `choice`, or it cannot do what was asked
 */
export function openGpu(options: OpenGpuOptions = {}): Promise<Gpu> {
  // There, anything but an object is refused.
  return openGpuOf(typeof options === "object" ? { sources: SOURCES, tuningStore: tuningFile(), ...options } : options);
}
