/**
 * `deno task bench:sweep`: times every variant of every family of kernels at the sizes that count. A variant that does
 * not run is named with the reason and does not stop the others.
 *
 * @module
 */
import { type OptionValues, text } from "../tools/program/options.ts";
import { runAsProgram } from "../tools/program/run_command.ts";
import { Gpu } from "../gpu/gpu.ts";
import { openGpu } from "../gpu/native/open.ts";
import { FAMILIES } from "../gpu/tuning/families.ts";
import { benchOptions, handOver, measuredOn, saveResult, sizeOption } from "./program.ts";
import { sweep, type SweepResult } from "./sweep/variants.ts";
import { ofCeiling, percent, tableOf, tflopsText } from "./table.ts";

const { tuning: _, ...others } = benchOptions;
const options = {
  ...others,
  size: sizeOption,
  only: text({ value: "WORD", help: "Only families whose name contains WORD.", default: "all" }),
};

if (import.meta.main) await runAsProgram({ name: "deno task bench:sweep", options, run: bench });

async function bench(values: OptionValues<typeof options>): Promise<void> {
  const { gpu: choice = "auto", precision: asked = "auto", only = "" } = values;
  const open = async () => {
    const { device, settings } = await openGpu({ choice, precision: asked });
    // The kernels for GPUs are timed, also on software adapters.
    return new Gpu(device, { ...settings, kernels: settings.kernels === "plain" ? "tiled" : settings.kernels });
  };
  const first = await open(), { software, matrixUnits } = first.settings.description, on = measuredOn(first);
  const size = values.size ?? (software ? "small" : "large");
  const about = { ...on, size, matrix: on.precision === "f16" && matrixUnits !== undefined };
  let ready: Gpu | undefined = first;
  const take = async () => {
    const taken = ready ?? await open();
    ready = undefined;
    return taken;
  };
  const done: SweepResult[] = [];
  const results = await sweep(FAMILIES.filter(({ name }) => name.includes(only)), size, take, (result) => {
    done.push(result);
    saveResult(values, { ...about, results: done });
    const { family, variant, ms, tflops, error } = result;
    const rate = tflops === undefined ? "" : `, ${tflops.toFixed(1)} TFLOP/s`;
    console.error(`${family}, ${result.case}, ${variant}: ${ms === undefined ? error : `${ms.toFixed(2)} ms${rate}`}`);
  });
  const title = `${on.adapter} (${on.source}, ${on.precision}), ${size}`;
  handOver(values, { ...about, results }, `\n${title}\n\n${table(on.adapter, about.matrix, results)}`);
}

/** The results of each case, the fastest first. */
function table(adapter: string, matrix: boolean, results: readonly SweepResult[]): string {
  const groups = [...Map.groupBy(results, (result) => `${result.family}\n${result.case}`).values()];
  return tableOf(groups.flatMap((group) => group.toSorted((a, b) => (a.ms ?? Infinity) - (b.ms ?? Infinity))), {
    "family": (r) => r.family,
    "case": (r) => r.case,
    "variant": (r) => r.variant,
    "ms": (r) => r.ms?.toFixed(2) ?? "",
    "spread": (r) => r.spread === undefined ? "" : percent(r.spread, 0),
    "TFLOP/s": (r) => r.tflops === undefined ? "" : tflopsText(r.tflops),
    "of the ceiling": (r) => r.tflops === undefined ? r.error ?? "" : ofCeiling(adapter, r.tflops, matrix),
    "off by": (r) => r.off?.toExponential(1) ?? "",
  });
}
