import type { WgslDialect } from "../kernel.ts";
import { MATRIX_FEATURE } from "../matrix_units.ts";

/** A WebGPU implementation. */
export interface DeviceSource {
  /** The name, as the user writes it. */
  readonly name: string;
  /** The dialect of its compiler. */
  readonly dialect: WgslDialect;
  /** The names of the graphics APIs that the user can choose. */
  readonly backends: readonly string[];
  /** The optional features that tilereel can use and this source may have, in the order in which they are shown. */
  readonly features: readonly WantedFeature[];
  /**
   * Requests an adapter; see `GPU.requestAdapter`.
   *
   * @param backend the graphics API, if it must be a particular one
   * @throws {TilereelError} when this machine does not have the source. The message says why, and how to get it.
   */
  requestAdapter(options: GPURequestAdapterOptions, backend: string | undefined): Promise<GPUAdapter | null>;
  /** The adapter's name, by which the user chooses it. */
  adapterName(info: GPUAdapterInfo): string;
  /** One sentence for a user whose machine has no adapter for this source: what to install. */
  noAdapter(backend: string | undefined): string;
}

/** All optional features that tilereel can use, where an adapter lists them. */
export const ALL_FEATURES: readonly WantedFeature[] = [
  { name: "shader-f16" },
  { name: "subgroups" },
  { name: "timestamp-query" },
  { name: MATRIX_FEATURE },
];

/** An optional feature. */
export interface WantedFeature {
  readonly name: GPUFeatureName;
  /** The adapter may grant the feature although it does not list it. */
  readonly unlisted?: boolean;
}
