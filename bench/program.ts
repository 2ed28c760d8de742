import { gpuOptions, type GpuValues, openGpuAsAsked, precisionOption } from "../tools/program/gpu_options.ts";
import { choice, flag, notation, type OptionValues, path } from "../tools/program/options.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { SHAPE_NAMES } from "./shapes.ts";

/** Options of most benchmarks. */
export const benchOptions = {
  ...gpuOptions("Options"),
  precision: precisionOption("Options"),
  json: flag({ help: "Print JSON instead of a table." }),
  save: path({ value: "FILE", help: "Also write the JSON to a file." }),
};

/** The problem sizes for software adapters, and those for GPUs. */
export type Size = "small" | "large";

/** --size, where it chooses among problem sizes. */
export const sizeOption = choice({
  choices: ["small", "large"],
  help: "Problem sizes.",
  default: "small on software adapters, else large",
});

/** --shape and --method, of benchmarks that time kinds of attention. */
export const attentionBenchOptions = {
  shape: choice({
    choices: SHAPE_NAMES,
    help:
      "A small model, Wan 1.3B or FastWan 1.3B at 832x480, 81 frames, or Wan 14B at 1280x720, 81 frames; HunyuanVideo at 1280x720, " +
      "117 or 129 frames, a small model of its kind, or Waver at 1280x720, 269 frames.",
    elsewhere: ["size"],
    default: "small on software adapters, else 1.3b",
  }),
  method: choice({
    choices: ["all", "vorta", "veda", "vsa"],
    help: "What to time beside full attention; all: VORTA and Veda.",
    default: "all",
  }),
};

/** The name of the model that --shape chooses on a GPU. */
export function shapeOn(
  { settings: { description: { software } } }: Gpu,
  { shape = software ? "small" : "1.3b" }: OptionValues<typeof attentionBenchOptions>,
): typeof SHAPE_NAMES[number] {
  return shape;
}

/** --stored: the format of files that are written or made up. */
export const storedOption = (usual: "f32" | "bf16") =>
  choice({ choices: ["f32", "bf16"], help: "Format of the files of weights.", default: usual });

/** --keeps: shares of tiles. */
export const keepsOption = (usual: readonly number[]) =>
  notation(
    { value: "X,Y", help: "Shares of tiles that Veda keeps.", default: usual.join() },
    "numbers above 0 and at most 1, as in 0.5,0.25",
    (text) => {
      const keeps = text.split(",").map(Number);
      return keeps.every((keep) => keep > 0 && keep <= 1) ? keeps : undefined;
    },
  );

/** Where --prompts points if it is not given. */
export const DEFAULT_PROMPTS = "tools/demo/prompts64.txt";

/** --prompts. */
export const promptsOption = path({ value: "FILE", help: "One prompt a line.", default: DEFAULT_PROMPTS });

/** The GPU on which something was measured. */
export interface MeasuredOn {
  readonly adapter: string;
  readonly source: string;
  readonly precision: string;
}

/** Describes a GPU for a result. */
export function measuredOn({ precision, settings: { description: { name, source } } }: Gpu): MeasuredOn {
  return { adapter: name, source, precision };
}

/** Opens the GPU that the options ask for, and closes it when the work is done. */
export async function onGpu(
  values: GpuValues,
  work: (gpu: Gpu, on: MeasuredOn) => Promise<void>,
): Promise<void> {
  const gpu = await openGpuAsAsked(values);
  try {
    await work(gpu, measuredOn(gpu));
  } finally {
    gpu.close();
  }
}

/** The content of --json and --save. */
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
