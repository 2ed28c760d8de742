/**
 * `deno task bench`: how fast the kernels, the transformer and the VAE run on this machine.
 *
 * @module
 */
import type { AdapterDescription } from "../gpu/device/adapter.ts";
import { Gpu } from "../gpu/gpu.ts";
import type { KernelKind } from "../gpu/kernel_picker.ts";
import { openGpu } from "../gpu/native/open.ts";
import type { Operands } from "../gpu/precision.ts";
import { useRemembered } from "../gpu/tuning/tune.ts";
import { choice, type OptionValues } from "../tools/program/options.ts";
import { runAsProgram } from "../tools/program/run_command.ts";
import { demoCases, KERNEL_CASES, withCase } from "./cases.ts";
import { FLOP_FORMULAS } from "./flops.ts";
import { measure, type Measurement } from "./measure.ts";
import { benchOptions, handOver, saveResult, sizeOption } from "./program.ts";
import { ofCeiling, percent, tableOf } from "./table.ts";

const options = {
  ...benchOptions,
  precision: choice({
    choices: ["f32", "f16"],
    help: "Number format of the operands of matrix products.",
    default: "both on a GPU",
  }),
  size: sizeOption,
};

/** One case with one kind of kernels. */
interface Measured extends Measurement {
  readonly case: string;
  readonly kernels: Variant["name"];
}

if (import.meta.main) await runAsProgram({ name: "deno task bench", options, run: bench });

async function bench(values: OptionValues<typeof options>): Promise<void> {
  const { adapter: { name: adapter, source, software }, variants } = await openVariants(values);
  const size = values.size ?? (software ? "small" : "large");
  const data = (results: readonly Measured[]) => ({
    ...{ adapter, source, software, size, flopFormulas: FLOP_FORMULAS },
    results: compared(results, adapter),
  });
  const measured: Measured[] = [], kernelCases = KERNEL_CASES[size];
  for (const task of [...kernelCases, ...await demoCases(size)]) {
    for (const { name: kernels, gpu, used } of variants) {
      if (!used && task !== kernelCases[0]) continue;
      const result = {
        case: task.name,
        kernels,
        ...await withCase(gpu, task, (_, once) => measure(gpu, once)),
      };
      gpu.trim();
      measured.push(result);
      saveResult(values, data(measured));
      console.error(`${task.name}, ${kernels}: ${result.ms.toFixed(2)} ms, ${rate(result)} GFLOP/s`);
    }
  }
  const all = data(measured), formulas = `FLOPs counted: ${FLOP_FORMULAS.join("; ")}.`;
  handOver(values, all, `\n${adapter}, ${size} sizes\n\n${resultTable(all.results)}\n\n${formulas}`);
  for (const { gpu } of variants) gpu.close();
}

/** The data of a run. */
export interface KernelRun {
  readonly adapter: string;
  readonly source: string;
  readonly results: readonly Compared[];
}

/** A result beside the figures that it is compared with. */
interface Compared extends Measured {
  /** Its rate over that of the fastest matrix product of this run, with any kernels. */
  readonly ofBestGemm: number;
  readonly ofCeiling: string;
}

function compared(measured: readonly Measured[], adapter: string): Compared[] {
  const best = Math.max(...measured.filter((r) => r.case.startsWith("GEMM")).map((r) => r.gflopsPerSecond));
  return measured.map((result) => ({
    ...result,
    ofBestGemm: result.gflopsPerSecond / best,
    ofCeiling: ofCeiling(adapter, result.gflopsPerSecond / 1000, result.kernels.startsWith("matrix")),
  }));
}

function resultTable(results: readonly Compared[]): string {
  return tableOf(results, {
    "case": (r) => r.case,
    "kernels": (r) => r.kernels,
    "GFLOP": (r) => (r.flops / 1e9).toPrecision(3),
    "ms": (r) => r.ms.toFixed(2),
    "spread": (r) => percent(r.spread, 0),
    "GFLOP/s": rate,
    "of best GEMM": (r) => percent(r.ofBestGemm, 0),
    "of the ceiling": (r) => r.ofCeiling,
  });
}

function rate({ gflopsPerSecond }: Measurement): string {
  return gflopsPerSecond.toFixed(gflopsPerSecond < 100 ? 1 : 0);
}

/** A device with one kind of kernels. */
interface Variant {
  readonly name: `${KernelKind} ${Operands}`;
  readonly gpu: Gpu;
  /** Whether tilereel uses them on this adapter. Others are timed for comparison, on one matrix product. */
  readonly used: boolean;
}

/**
 * Opens the adapter with every kind of kernels that is worth timing. Without --precision a GPU runs in f32 and, where it can, in f16. Software rendering over OpenGL takes minutes to compile a tiled kernel,
 * which it never runs, so it has `plain` only.
 */
async function openVariants(
  { gpu: choice = "auto", precision: asked, tuning }: OptionValues<typeof options>,
): Promise<{ adapter: AdapterDescription; variants: Variant[] }> {
  const { device, settings } = await openGpu({ choice, precision: asked ?? "f32" });
  const { software, features, matrixUnits } = settings.description, f16 = features.includes("shader-f16");
  const only16 = asked !== undefined && settings.precision === "f16";
  const names: Variant["name"][] = ["plain f32"];
  if (!only16 && (f16 || !software)) names.push("tiled f32");
  if (only16 || asked === undefined && f16 && !software) names.push(matrixUnits ? "matrix f16" : "tiled f16");
  const variants = names.map((name) => {
    const [kernels, precision] = name.split(" ") as [KernelKind, Operands];
    const used = (kernels === "plain") === (software && !only16);
    return { name, used, gpu: new Gpu(device, { ...settings, kernels, precision }) };
  });
  if (tuning !== "off") { for (const { gpu } of variants) await useRemembered(gpu); }
  return { adapter: settings.description, variants };
}
