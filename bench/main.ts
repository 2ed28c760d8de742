/**
 * `deno task bench`: how fast the kernels, the transformer and the VAE run on this machine.
 *
 * @module
 */
import { exists } from "../model/files/file_error.ts";
import { embeddedModelDir } from "../model/embedded.ts";
import { gpuOptions } from "../tools/program/gpu_options.ts";
import { choice, type OptionValues } from "../tools/program/options.ts";
import type { Case, Size } from "./case.ts";
import { ofCeiling } from "./ceilings.ts";
import { attentionCases } from "./cases/attention.ts";
import { conv3dCases } from "./cases/conv3d.ts";
import { gemmCases } from "./cases/gemm.ts";
import { transformerCase } from "./cases/transformer.ts";
import { vaeDecodeCase } from "./cases/vae_decode.ts";
import { FLOP_FORMULAS } from "./flops.ts";
import { measure, type Measurement } from "./measure.ts";
import { handOver, resultOptions, saveResult } from "./result.ts";
import { markdownTable } from "./table.ts";
import { openVariants, type Variant } from "./variants.ts";
import { runAsProgram } from "../tools/program/run_as_program.ts";

const options = {
  ...gpuOptions("Bench"),
  precision: choice({ group: "Bench", choices: ["f32", "f16"], help: "Of matrix operands.", default: "both on a GPU" }),
  size: choice({ group: "Bench", choices: ["small", "large"], help: "Problem sizes.", default: "by kind of adapter" }),
  ...resultOptions,
};

/** One case on one variant. */
interface Measured extends Measurement {
  readonly case: string;
  readonly kernels: Variant["name"];
}

/** The same, beside the figures it is compared with. */
interface Result extends Measured {
  /** Its rate over that of the fastest matrix product of this run, of any variant. */
  readonly ofBestGemm: number;
  readonly ofCeiling: string;
}

if (import.meta.main) await runAsProgram({ command: "deno task bench", options, run: bench });

async function bench(values: OptionValues<typeof options>): Promise<void> {
  const { adapter, variants } = await openVariants(values);
  const { name, software } = adapter;
  const size = values.size ?? (software ? "small" : "large");
  const data = (results: readonly Measured[]) => ({
    adapter: name,
    source: adapter.source,
    software,
    size,
    flopFormulas: FLOP_FORMULAS,
    results: compared(results, name),
  });
  const all = data(await runAll(size, variants, (results) => saveResult(values, data(results))));
  handOver(
    values,
    all,
    `\n${name}, ${size} sizes\n\n${resultTable(all.results)}\n\nFLOPs counted: ${FLOP_FORMULAS.join("; ")}.`,
  );
  for (const { gpu } of variants) gpu.close();
}

async function runAll(
  size: Size,
  variants: readonly Variant[],
  soFar: (results: readonly Measured[]) => void,
): Promise<Measured[]> {
  const gemms = gemmCases(size);
  const others = [...attentionCases(size), ...conv3dCases(size), ...await demoCases(size)];
  const measured: Measured[] = [];
  for (const task of [...gemms, ...others]) {
    for (const variant of variants) {
      if (!variant.used && task !== gemms[0]) continue;
      const result = { case: task.name, kernels: variant.name, ...await runCase(task, variant) };
      measured.push(result);
      soFar(measured);
      console.error(`${result.case}, ${result.kernels}: ${result.ms.toFixed(2)} ms, ${rate(result)} GFLOP/s`);
    }
  }
  return measured;
}

function compared(measured: readonly Measured[], adapter: string): Result[] {
  const best = Math.max(...measured.filter((r) => r.case.startsWith("GEMM")).map((r) => r.gflopsPerSecond));
  return measured.map((result) => ({
    ...result,
    ofBestGemm: result.gflopsPerSecond / best,
    ofCeiling: ofCeiling(adapter, result.gflopsPerSecond / 1000, result.kernels.startsWith("matrix")),
  }));
}

/** Those of the demo model; none where it was not carried along. */
async function demoCases(size: Size): Promise<Case[]> {
  if (await exists(embeddedModelDir())) return [transformerCase, vaeDecodeCase(size)];
  console.error("The demo model is not here: its cases are left out.");
  return [];
}

async function runCase(task: Case, { gpu }: Variant): Promise<Measurement> {
  const prepared = await task.prepare(gpu);
  try {
    return await measure(gpu, prepared.work);
  } finally {
    prepared.release();
    gpu.trim();
  }
}

function resultTable(results: readonly Result[]): string {
  return markdownTable([
    ["case", "kernels", "GFLOP", "ms", "spread", "GFLOP/s", "of best GEMM", "of the ceiling"],
    ...results.map((r) => [
      r.case,
      r.kernels,
      (r.flops / 1e9).toPrecision(3),
      r.ms.toFixed(2),
      percent(r.spread),
      rate(r),
      percent(r.ofBestGemm),
      r.ofCeiling,
    ]),
  ]);
}

function rate({ gflopsPerSecond }: Measurement): string {
  return gflopsPerSecond.toFixed(gflopsPerSecond < 100 ? 1 : 0);
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)}%`;
}
