import { openGpu } from "../../gpu/native/open.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { PRECISIONS } from "../../gpu/precision.ts";
import type { OnProgress } from "../../model/progress.ts";
import { choice, inGroup, type OptionValues, path } from "./options.ts";

/** --gpu and --tuning. `group` is their heading in the help. */
export const gpuOptions = (group: string) =>
  inGroup(group, {
    gpu: path({
      value: "NAME",
      completion: ["auto", "software", "vulkan", "gl", "dawn"],
      help: 'Adapter to run on: "auto", "software", "vulkan", "gl", or the number or a part of the name that ' +
        '"tilereel info" shows. "dawn" is Chrome\'s WebGPU, which is faster on GPUs and must be installed (deno ' +
        'task dawn); "dawn:" and a number or a part of a name chooses one of its adapters.',
      elsewhere: ["device", "backend"],
      default: "auto",
    }),
    tuning: choice({
      choices: ["auto", "again", "off"],
      help: "How kernels are chosen. auto: by a trial, which runs once per GPU and precision before the first work " +
        "with a model of your own (the embedded model takes less time than a trial); again: by a new trial; " +
        "off: without a trial.",
      elsewhere: ["retune", "tune", "autotune"],
      default: "auto",
    }),
  });

/** --precision. */
export const precisionOption = (group: string) =>
  choice({
    group,
    choices: PRECISIONS,
    help:
      "Number format of the operands of matrix products. auto: f16 on GPUs that support it, f32 on software adapters; " +
      "int8: the weights of the transformer's blocks and what they are multiplied by are rounded to 8 bits.",
    elsewhere: ["dtype", "type", "torch-dtype"],
    default: "auto",
  });

/** The values of the options. */
export interface GpuValues extends OptionValues<ReturnType<typeof gpuOptions>> {
  readonly precision?: (typeof PRECISIONS)[number];
  /** --memory, in bytes. */
  readonly memory?: number | undefined;
}

/**
 * Opens the GPU for work: with its fastest kernels.
 *
 * @param brief the work is done sooner than a trial: with the fastest that are known
 * @throws {TilereelError} as `openGpu` does
 */
export async function openGpuAsAsked(
  values: GpuValues,
  onProgress: OnProgress,
  { brief = false } = {},
): Promise<Gpu> {
  const { gpu, precision, memory, tuning } = values, again = tuning === "again";
  return await openGpu({
    ...gpu !== undefined && { choice: gpu },
    ...precision !== undefined && { precision },
    ...memory !== undefined && { memoryLimit: memory },
    tune: tuning === "off" ? false : { again, rememberedOnly: brief && !again, onProgress },
  });
}
