import type { Gpu } from "../../gpu/gpu.ts";
import { type KernelsInUse, kernelsInUse } from "../../gpu/tuning/in_use.ts";
import { tuneKernels } from "../../gpu/tuning/tune.ts";
import type { OnProgress } from "../../model/progress.ts";
import { defineCommand } from "../../tools/program/command.ts";
import { gpuOptions, openGpuAsAsked, precisionOption } from "../../tools/program/gpu_options.ts";
import { flag, integer, type OptionValues } from "../../tools/program/options.ts";
import { openOutput } from "../../tools/program/output.ts";
import { kernelsText } from "../info/kernels_text.ts";

const { gpu } = gpuOptions("Options");
const options = {
  gpu,
  precision: precisionOption("Options"),
  seconds: integer({
    group: "Options",
    value: "N",
    help:
      "The time that this should take. Where kernels compile slowly, those that are likely to be slow are left out.",
    default: 15,
    min: 1,
  }),
  json: flag({ help: "Print one JSON object instead of a table." }),
};

/** `tilereel tune`: finds the fastest kernels of an adapter. */
export const command = defineCommand({
  name: "tilereel tune",
  description:
    "Tries all kernels of this GPU for some seconds and remembers the fastest of each kind. All commands then " +
    "use them. Without this, they use the defaults for such GPUs, which are as fast on the GPUs that they were measured on.",
  options,
  notes:
    "What is chosen changes the time of a clip, and its pixels only by rounding. Run this again after an update of " +
    "tilereel or of the driver; --tuning off makes a command use the defaults.",
  examples: {
    "tilereel tune --gpu dawn": "Finds the fastest kernels for Dawn on the best GPU.",
    "tilereel tune --precision f32": "Finds those for f32, which trainings use.",
  },
  run,
});

async function run({ json = false, seconds = 15, ...values }: OptionValues<typeof options>): Promise<number> {
  using output = openOutput({ quiet: json });
  const gpu = await openGpuAsAsked(values);
  try {
    const found = await tune(gpu, seconds, output.onProgress);
    if (json) console.log(JSON.stringify(found, null, 2));
    else {
      const { adapter, source, precision, seconds, kernels } = found;
      output.say(`${adapter} (${source}, ${precision}), ${seconds.toFixed(1)} s:\n${kernelsText(kernels)}`);
    }
    return 0;
  } finally {
    gpu.close();
  }
}

/** The result of the command. */
interface Tuned {
  readonly adapter: string;
  readonly source: string;
  readonly precision: string;
  /** The time of the trial. */
  readonly seconds: number;
  readonly kernels: KernelsInUse;
}

async function tune(gpu: Gpu, most: number, onProgress: OnProgress): Promise<Tuned> {
  const { precision, description: { name: adapter, source } } = gpu.settings, start = performance.now();
  await tuneKernels(gpu, { again: true, seconds: most, onProgress });
  return { adapter, source, precision, seconds: (performance.now() - start) / 1000, kernels: await kernelsInUse(gpu) };
}
