import { type Vendor, vendorOf } from "../device/vendor.ts";
import type { GpuSettings } from "../gpu.ts";
import type { KernelKind } from "../kernel_picker.ts";
import type { Operands } from "../precision.ts";

/** The variants that are used on some adapters where `tilereel tune` did not choose others. */
export interface Defaults {
  /** The adapters, as a text that completes "shipped default for …". */
  readonly for: string;
  readonly vendor: Vendor;
  readonly kernels: KernelKind;
  readonly precision: Operands;
  /** The adapter, source and date of the trial that found them. */
  readonly measured: string;
  /** For each kernel family the name of a variant. Where an adapter has no room for it, the family's first is used. */
  readonly variants: Readonly<Record<string, string>>;
}

/**
 * The shipped defaults. This is the one place that says which variant an adapter starts with. `tilereel tune --json`
 * prints what is the fastest on the adapter that it runs on. Adapters without a row, and families that a row leaves out,
 * use the first variant.
 */
export const DEFAULTS: readonly Defaults[] = [
  {
    for: "NVIDIA GPUs with matrix units",
    ...{ vendor: "nvidia", kernels: "matrix", precision: "f16" },
    measured: "H200, Dawn, 2026-11-30",
    // Of the other families, the first was the fastest.
    variants: {
      "attention 128": "matrix 4x32x32 by 2 apart delayed",
      "attention 128 by a plan": "matrix 4x32x32 by 2 apart delayed",
    },
  },
  {
    for: "NVIDIA GPUs without matrix units",
    ...{ vendor: "nvidia", kernels: "tiled", precision: "f16" },
    measured: "H200, native Deno, 2026-11-30",
    variants: {
      "gemm": "128x64_8x8_32_ahead_f16_32",
      "attention 128": "f16 in sixteens 64x64 by 128",
      "attention 128 by a plan": "f16 in sixteens 64x32 by 128, more values",
      "conv3d": "squares_128x96_8x12_32_ahead_f16_16",
    },
  },
];

/** The shipped defaults of a device; undefined where the first variants are used. */
export function defaultsFor(
  { description, kernels, precision }: Pick<GpuSettings, "description" | "kernels" | "precision">,
): Defaults | undefined {
  const vendor = vendorOf(description);
  return DEFAULTS.find((row) => row.vendor === vendor && row.kernels === kernels && row.precision === precision);
}
