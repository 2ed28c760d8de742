/**
 * The interface of a source of devices. `gpu/device.ts` lists and opens the adapters of all sources in the same way.
 *
 * @module
 */

/** The names of the sources, as the user writes them. */
export type SourceName = "deno" | "dawn";

/** A WebGPU implementation. */
export interface DeviceSource {
  readonly name: SourceName;
  /** The graphics APIs that the user can choose. */
  readonly backends: readonly Backend[];
  /** The optional features that tilereel can use and this source may have, in the order in which they are shown. */
  readonly features: readonly WantedFeature[];
  /**
   * The entry point through which adapters are requested.
   *
   * @param backend the graphics API, if it must be a particular one
   * @throws {TilereelError} when this machine does not have the source. The message says why, and how to get it.
   */
  implementation(backend: Backend | undefined): GPU;
  /** The adapter's name, by which the user chooses it. */
  adapterName(info: GPUAdapterInfo): string;
  /** One sentence for a user whose machine has no adapter for this source: what to install. */
  noAdapter(backend: Backend | undefined): string;
}

/** A graphics API that an adapter is reached through. */
export type Backend = "vulkan" | "gl";

/** An optional feature. */
export interface WantedFeature {
  readonly name: GPUFeatureName;
  /** The adapter may grant the feature although it does not list it. */
  readonly unlisted?: boolean;
}
