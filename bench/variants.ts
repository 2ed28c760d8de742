/**
 * The families of kernels that one device can run, side by side.
 *
 * @module
 */
import type { GpuValues } from "../tools/program/gpu_options.ts";
import { showProgress } from "../tools/program/progress.ts";
import { openGpu } from "../gpu/native/open.ts";
import type { AdapterDescription } from "../gpu/device/adapter.ts";
import { Gpu } from "../gpu/gpu.ts";
import type { KernelKind } from "../gpu/kernel_picker.ts";
import type { Precision } from "../gpu/precision.ts";
import { tuneKernels } from "../gpu/tuning/tune.ts";

/** A device as one family of kernels sees it. */
export interface Variant {
  readonly name: `${KernelKind} ${Precision}`;
  readonly gpu: Gpu;
  /** Whether tilereel uses it on this adapter. Others are timed for comparison, on matrix products only. */
  readonly used: boolean;
}

/** An adapter and the variants it runs. */
export interface Opened {
  readonly adapter: AdapterDescription;
  readonly variants: readonly Variant[];
}

/**
 * Opens the adapter in every variant worth timing, those that are used with their fastest kernels. Without `precision`
 * a GPU runs in f32 and, where it can, in f16. Software rendering over OpenGL takes minutes to compile a tiled kernel,
 * which it never runs: it has `plain` only.
 *
 * @throws {TilereelError} as `openGpu`
 */
export async function openVariants({ gpu: choice = "auto", precision: asked, tuning }: GpuValues): Promise<Opened> {
  const { device, settings } = await openGpu({ choice, precision: asked ?? "f32" });
  const precision = asked && settings.precision;
  const { software, features } = settings.description;
  const variant = (name: Variant["name"], used: boolean): Variant => {
    const [kernels, precision] = name.split(" ") as [KernelKind, Precision];
    return { name, used, gpu: new Gpu(device, { ...settings, kernels, precision }) };
  };
  const f16 = features.includes("shader-f16");
  const halves = settings.description.matrixUnits ? "matrix f16" : "tiled f16";
  const names: Variant["name"][] = ["plain f32"];
  if (precision !== "f16" && (f16 || !software)) names.push("tiled f32");
  if (precision === "f16" || precision === undefined && f16 && !software) names.push(halves);
  const plainUsed = software && precision !== "f16";
  const variants = names.map((name) => variant(name, name.startsWith("plain") === plainUsed));
  if (tuning !== "off" && !software) {
    const { onProgress } = showProgress();
    for (const { used, gpu } of variants) if (used) await tuneKernels(gpu, { again: tuning === "again", onProgress });
  }
  return { adapter: settings.description, variants };
}
