/**
 * What benchmarks share as programs: options, the GPU, and how results are printed and saved.
 *
 * @module
 */
import { gpuOptions, type GpuValues, openGpuAsAsked, precisionOption } from "../tools/program/gpu_options.ts";
import { choice, flag, path } from "../tools/program/options.ts";
import { showProgress } from "../tools/program/progress.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { SHAPE_NAMES } from "./shapes.ts";

/** Options of most benchmarks. */
export const benchOptions = {
  ...gpuOptions("Bench"),
  precision: precisionOption("Bench"),
  json: flag({ group: "Bench", help: "Print JSON instead of a table." }),
  save: path({ group: "Bench", value: "FILE", help: "Also write the JSON to a file." }),
};

/** The problem sizes for software adapters, and those for GPUs. */
export type Size = "small" | "large";

/** --size, where it chooses among problem sizes. */
export const sizeOption = choice({
  group: "Bench",
  choices: ["small", "large"],
  help: "Problem sizes.",
  default: "small on software adapters, else large",
});

/** --shape. */
export const shapeOption = choice({
  group: "Bench",
  choices: SHAPE_NAMES,
  help: "A small model, Wan 1.3B at 832x480, 81 frames, or Wan 14B at 1280x720, 81 frames.",
  elsewhere: ["size"],
  default: "small on software adapters, else 1.3b",
});

/** --prompts. */
export const promptsOption = path({
  group: "Bench",
  value: "FILE",
  help: "One prompt a line.",
  default: "tools/demo/prompts64.txt",
});

/** The GPU on which something was measured. */
export interface MeasuredOn {
  readonly adapter: string;
  readonly source: string;
  readonly precision: string;
}

/** Describes a GPU for a result. */
export function measuredOn({ settings: { precision, description: { name, source } } }: Gpu): MeasuredOn {
  return { adapter: name, source, precision };
}

/**
 * Opens the GPU that the options ask for, and closes it when the work is done.
 *
 * @param brief as for `openGpuAsAsked`
 */
export async function onGpu(
  values: GpuValues,
  work: (gpu: Gpu, on: MeasuredOn) => Promise<void>,
  { brief = false } = {},
): Promise<void> {
  const gpu = await openGpuAsAsked(values, showProgress().onProgress, { brief });
  try {
    await work(gpu, measuredOn(gpu));
  } finally {
    gpu.close();
  }
}

/** What --json and --save say. */
interface ResultValues {
  readonly json?: boolean;
  readonly save?: string;
}

/** Writes the data to the file of --save. Partial data is written too, because a benchmark may be stopped. */
export function saveResult({ save }: ResultValues, data: unknown): void {
  if (save !== undefined) Deno.writeTextFileSync(save, `${JSON.stringify(data)}\n`);
}

/** Prints the text, or with --json the data, and writes the data. */
export function handOver(values: ResultValues, data: unknown, text: string): void {
  saveResult(values, data);
  console.log(values.json ? JSON.stringify(data) : text);
}
