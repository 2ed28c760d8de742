import { openGpu } from "../../gpu/native/open.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { PRECISIONS } from "../../gpu/precision.ts";
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
      choices: ["auto", "off"],
      help: 'Which kernels run. auto: those that "tilereel tune" found to be the fastest on this GPU, otherwise the ' +
        "defaults for such GPUs; off: always the defaults.",
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
 * Opens the GPU for work.
 *
 * @throws {TilereelError} as `openGpu` does
 */
export function openGpuAsAsked({ gpu, precision, memory, tuning }: GpuValues): Promise<Gpu> {
  return openGpu({
    ...gpu !== undefined && { choice: gpu },
    ...precision !== undefined && { precision },
    ...memory !== undefined && { memoryLimit: memory },
    ...tuning === "off" && { tuningStore: undefined },
  });
}
