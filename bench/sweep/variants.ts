import type { Gpu } from "../../gpu/gpu.ts";
import { relativeError } from "../../gpu/relative_error.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { AnyFamily } from "../../gpu/tuning/families.ts";
import { type Case, sweptCases, withCase } from "../cases.ts";
import { measure } from "../measure.ts";
import type { Size } from "../program.ts";

/** One variant on one case. */
export interface SweepResult {
  readonly family: string;
  readonly case: string;
  readonly variant: string;
  /** Why it did not run; then there are no figures. */
  readonly error?: string;
  readonly ms?: number;
  readonly spread?: number;
  /** TFLOP/s; absent where operations were not counted. */
  readonly tflops?: number;
  /** The relative error against the family's first variant that ran. */
  readonly off?: number;
}

/** The number of rows of the output that are compared, at its beginning and in its middle. */
const ROWS = 64;

/**
 * Times every variant of kernels and compares what they compute. A variant that fails may leave the device unusable, so
 * the next variant gets a new device.
 *
 * @param open opens a device anew, with the kernels for GPUs even where it is none
 */
export async function sweep(
  families: readonly AnyFamily[],
  size: Size,
  open: () => Promise<Gpu>,
  onResult: (result: SweepResult) => void = () => {},
): Promise<SweepResult[]> {
  const results: SweepResult[] = [];
  let gpu: Gpu | undefined = await open();
  for (const family of families) {
    const names = [...family.variants(gpu).keys()];
    for (const task of casesOf(family, size)) {
      let first: Float32Array | undefined;
      for (const variant of names) {
        gpu ??= await open();
        const about = { family: family.name, case: task.name, variant };
        try {
          gpu.kernels.choose(family.name, variant);
          const { output, ...figures } = await time(gpu, task, variant);
          first ??= output;
          const off = output && first && output !== first ? relativeError(output, first) : undefined;
          results.push({ ...about, ...figures, ...off !== undefined && { off } });
          gpu.trim();
        } catch (error) {
          results.push({ ...about, error: (error as Error).message.split("\n")[0]! });
          gpu.close();
          gpu = undefined;
        }
        onResult(results.at(-1)!);
      }
    }
    gpu ??= await open();
  }
  gpu.close();
  return results;
}

/** The cases of a family or, where it has none, the trial that chooses among its variants. */
function casesOf(family: AnyFamily, size: Size): readonly Case[] {
  const cases = sweptCases(family.name, size);
  if (cases.length > 0) return cases;
  const prepare: Case["prepare"] = (gpu, name = "") => {
    const run = family.trial(gpu), variant = family.variants(gpu).get(name);
    return { flops: 0, work: () => void run(variant) as undefined };
  };
  return [{ name: "its trial", prepare }];
}

function time(gpu: Gpu, task: Case, variant: string) {
  return withCase(gpu, task, async (prepared, once) => {
    const { ms, spread, flops: counted } = await measure(gpu, once, { least: 2 }), { flops = counted } = prepared;
    // What is not written then shows as NaN.
    gpu.poison = true;
    const made = await prepared.work();
    gpu.poison = false;
    return { ms, spread, ...flops > 0 && { tflops: flops / ms / 1e9 }, output: made && await someRows(gpu, made) };
  }, variant);
}

async function someRows(gpu: Gpu, tensor: Tensor): Promise<Float32Array> {
  const rows = tensor.size / tensor.dim(-1), count = Math.min(ROWS, rows);
  const all = tensor.reshape([rows, tensor.dim(-1)]);
  const parts: Float32Array[] = [];
  for (const at of [0, Math.floor(rows / 2 / ROWS) * ROWS]) {
    parts.push(await gpu.read(all.rows(at, Math.min(count, rows - at))));
  }
  return Float32Array.from(parts.flatMap((part) => [...part]));
}
