/**
 * `deno task bench:sweep`: every variant of every family of kernels at the sizes that count, so that it can be read off
 * which are fastest, and why. A variant that does not run is named with its reason and does not stop the others.
 *
 * @module
 */
import { choice, type OptionValues, text } from "../tools/program/options.ts";
import { gpuOptions, precisionOption } from "../tools/program/gpu_options.ts";
import { openGpu } from "../gpu/native/open.ts";
import { Gpu } from "../gpu/gpu.ts";
import { FAMILIES } from "../gpu/tuning/families.ts";
import { ofCeiling } from "./ceilings.ts";
import { handOver, resultOptions, saveResult } from "./result.ts";
import { runAsProgram } from "../tools/program/run_as_program.ts";
import { sweep, type SweepResult } from "./sweep/sweep.ts";
import { markdownTable } from "./table.ts";

const { gpu } = gpuOptions("Bench");
const options = {
  gpu,
  precision: precisionOption("Bench"),
  size: choice({ group: "Bench", choices: ["small", "large"], help: "Problem sizes.", default: "by kind of adapter" }),
  only: text({ group: "Bench", value: "WORD", help: "Families whose name has it in.", default: "all" }),
  ...resultOptions,
};

if (import.meta.main) await runAsProgram({ command: "deno task bench:sweep", options, run: bench });

async function bench(values: OptionValues<typeof options>): Promise<void> {
  const { gpu: choice = "auto", precision: asked = "auto", only = "" } = values;
  const open = async () => {
    const { device, settings } = await openGpu({ choice, precision: asked });
    // The kernels for GPUs are the candidates, whatever this adapter is.
    const kernels = settings.kernels === "plain" ? "tiled" : settings.kernels;
    return { settings, gpu: new Gpu(device, { ...settings, kernels }) };
  };
  const first = await open();
  const { precision, description: { name: adapter, source, software, matrixUnits } } = first.settings;
  const families = FAMILIES.filter(({ name }) => name.includes(only));
  const size = values.size ?? (software ? "small" : "large");
  const about = { adapter, source, precision, size, matrix: precision === "f16" && matrixUnits !== undefined };
  let ready: Gpu | undefined = first.gpu;
  const take = async () => {
    const taken = ready ?? (await open()).gpu;
    ready = undefined;
    return taken;
  };
  const done: SweepResult[] = [];
  const results = await sweep(families, size, take, (result) => {
    done.push(result);
    saveResult(values, { ...about, results: done });
    console.error(line(result));
  });
  handOver(
    values,
    { ...about, results },
    `\n${adapter} (${source}, ${precision}), ${size}\n\n${table(about, results)}`,
  );
}

function line({ family, case: name, variant, ms, tflops, error }: SweepResult): string {
  const rate = tflops === undefined ? "" : `, ${tflops.toFixed(1)} TFLOP/s`;
  return `${family}, ${name}, ${variant}: ${ms === undefined ? error : `${ms.toFixed(2)} ms${rate}`}`;
}

/** Of each size the fastest first. */
function table(
  { adapter, matrix }: { readonly adapter: string; readonly matrix: boolean },
  results: readonly SweepResult[],
): string {
  const groups = Map.groupBy(results, (result) => `${result.family}\n${result.case}`);
  const sorted = [...groups.values()].flatMap((group) =>
    group.toSorted((a, b) => (a.ms ?? Infinity) - (b.ms ?? Infinity))
  );
  return markdownTable([
    ["family", "case", "variant", "ms", "spread", "TFLOP/s", "of the ceiling", "off by"],
    ...sorted.map(({ family, case: name, variant, ms, spread, tflops, off, error }) => [
      family,
      name,
      variant,
      ms?.toFixed(2) ?? "",
      spread === undefined ? "" : `${(100 * spread).toFixed(0)}%`,
      tflops?.toFixed(tflops < 1 ? 3 : 1) ?? "",
      tflops === undefined ? error ?? "" : ofCeiling(adapter, tflops, matrix),
      off?.toExponential(1) ?? "",
    ]),
  ]);
}
