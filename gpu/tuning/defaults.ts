import { type Vendor, vendorOf } from "../device/vendor.ts";
import type { GpuSettings } from "../gpu.ts";
import type { KernelKind } from "../kernel_picker.ts";
import type { Operands } from "../precision.ts";

/** The variants that are used on some adapters where `tilereel tune` did not choose others. */
export interface Defaults {
  /** The adapters, as a text that completes "shipped default for …". It says so where nothing was measured. */
  readonly for: string;
  readonly vendor: Vendor;
  readonly kernels: KernelKind;
  readonly precision: Operands;
  /** The adapter, source and date of the trial that found them. Absent where they follow from what is published. */
  readonly measured?: string;
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
  // No other GPU was at hand. These rows follow from what makers and drivers publish. Neither source reports matrix units
  // there that `matrix_units.ts` can use: subgroups have no fixed size (AMD 32 or 64, Intel 16 or 32), or products in f16
  // are not summed in f32 (Apple).
  {
    for: "AMD GPUs (not measured)",
    ...{ vendor: "amd", kernels: "tiled", precision: "f16" },
    // A thread has as many registers as on NVIDIA (256), subgroups have 32 threads or more, and two f16 take the time of
    // one f32. So these are the variants that are the fastest there, and of attention the one with the least memory.
    variants: {
      "gemm": "128x64_8x8_32_ahead_f16_32",
      "attention 128": "f16 in sixteens 64x32 by 128",
      "attention 128 by a plan": "f16 in sixteens 64x32 by 128",
      "conv3d": "squares_128x96_8x12_32_ahead_f16_16",
    },
  },
  ...fewRegisters("Intel"),
  ...fewRegisters("Apple"),
];

/**
 * For GPUs whose threads have fewer registers: 256 halves on Apple's; on Intel's Xe-HPG 4 KiB for the 8, 16 or 32 threads
 * of a subgroup. The variants with the fewest sums a thread (32 or 48) are the least likely to spill. Convolutions are
 * computed directly, because Winograd's way moves four times as much, and most of these GPUs share the memory of the
 * processor.
 */
function fewRegisters(maker: "Intel" | "Apple"): Defaults[] {
  const shared = {
    ...{ for: `${maker} GPUs (not measured)`, vendor: maker.toLowerCase() as Vendor },
    kernels: "tiled" as const,
  };
  return [
    {
      ...shared,
      precision: "f16",
      variants: {
        "gemm": "128x64_8x4_32_ahead_f16_16",
        "attention 128": "f16 in sixteens 64x64 by 256",
        "attention 128 by a plan": "f16 in sixteens 64x64 by 256",
        "conv3d": "64x96_4x12_32_ahead_f16_16",
      },
    },
    {
      ...shared,
      precision: "f32",
      // Attention's first variant that fits into 32 KiB has the fewest already.
      variants: { "gemm": "128x64_8x4_16_ahead", "conv3d": "128x96_4x12_16_ahead" },
    },
  ];
}

/** The shipped defaults of a device; undefined where the first variants are used. */
export function defaultsFor(
  { description, kernels, precision }: Pick<GpuSettings, "description" | "kernels" | "precision">,
): Defaults | undefined {
  const vendor = vendorOf(description);
  return DEFAULTS.find((row) => row.vendor === vendor && row.kernels === kernels && row.precision === precision);
}
