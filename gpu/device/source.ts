/**
 * What a place that devices come from has to say for itself; `gpu/device.ts` lists and opens adapters of all alike.
 *
 * @module
 */

/** Names of the sources, as the user meets them. */
export type SourceName = "deno" | "dawn";

/** A WebGPU implementation. */
export interface DeviceSource {
  readonly name: SourceName;
  /** The graphics APIs that can be picked. */
  readonly backends: readonly Backend[];
  /** The optional features tilereel can use that this source may have, in the order they are shown. */
  readonly features: readonly WantedFeature[];
  /**
   * Where adapters are asked for.
   *
   * @param backend where no other will do
   * @throws {TilereelError} when this machine does not have the source: why, and how to get it
   */
  implementation(backend: Backend | undefined): GPU;
  /** What an adapter is called: what the user picks it by. */
  adapterName(info: GPUAdapterInfo): string;
  /** One sentence for a user whose machine has no adapter for this source: what to install. */
  noAdapter(backend: Backend | undefined): string;
}

/** A graphics API that an adapter is reached through. */
export type Backend = "vulkan" | "gl";

/** An optional feature. */
export interface WantedFeature {
  readonly name: GPUFeatureName;
  /** The adapter does not list it, and yet may grant it. */
  readonly unlisted?: boolean;
}
