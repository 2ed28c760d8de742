/**
 * Times every variant of kernels at the sizes that count, and looks at what they compute.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { KernelFamily } from "../../gpu/tuning/family.ts";
import { relativeError } from "../../model/parity/measures.ts";
import type { Size } from "../case.ts";
import { targetCases } from "../cases/target.ts";
import { measure } from "../measure.ts";

/** One variant on one size. */
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
  /** Relative error of what it computes, beside the family's first variant that ran. */
  readonly off?: number;
}

// deno-lint-ignore no-explicit-any
type AnyFamily = KernelFamily<any>;

/** Rows of the output that are compared, at its begin and in its middle. */
const ROWS = 64;

/**
 * Times variants and checks their results. A variant that fails may leave the device unusable, so the next variant gets
 * a new device.
 *
 * @param open opens a device anew, as a GPU even where it is none
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
    for (const target of casesOf(family, size)) {
      let first: Float32Array | undefined;
      for (const variant of names) {
        gpu ??= await open();
        const about = { family: family.name, case: target.name, variant };
        try {
          gpu.kernels.choose(family.name, variant);
          const { output, ...figures } = await time(gpu, (gpu) => target.prepare(gpu, variant));
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

interface SweepCase {
  readonly name: string;
  prepare(gpu: Gpu, variant: string): SweepWork;
}

/** A target, or what makes no one tensor. */
interface SweepWork {
  readonly flops: number;
  readonly work: () => Tensor | undefined;
  readonly release?: () => void;
}

/** The targets of a family, or, where it has none, the trial that chooses among its variants. */
function casesOf(family: AnyFamily, size: Size): SweepCase[] {
  const targets = targetCases(family.name, size);
  if (targets.length > 0) return targets;
  return [{
    name: "its trial",
    prepare: (gpu, variant) => {
      const run = family.trial(gpu);
      const work = () => {
        run(family.variants(gpu).get(variant));
        return undefined;
      };
      return { flops: 0, work };
    },
  }];
}

async function time(gpu: Gpu, prepare: (gpu: Gpu) => SweepWork) {
  return await gpu.waitingScope(async () => {
    const { flops, work, release } = prepare(gpu);
    const once = () => {
      const made = work();
      if (made) gpu.release(made);
    };
    const { ms, spread } = await measure(gpu, once, { least: 2 });
    // Poisoned, so that what is not written shows.
    gpu.poison = true;
    const made = work();
    gpu.poison = false;
    const output = made && await someRows(gpu, made);
    release?.();
    return { ms, spread, ...flops > 0 && { tflops: flops / ms / 1e9 }, output };
  });
}

async function someRows(gpu: Gpu, tensor: Tensor): Promise<Float32Array> {
  const rows = tensor.size / tensor.dim(-1), count = Math.min(ROWS, rows);
  const all = tensor.reshape([rows, tensor.dim(-1)]);
  const middle = Math.floor(rows / 2 / ROWS) * ROWS;
  const parts: Float32Array[] = [];
  for (const at of [0, middle]) parts.push(await gpu.read(all.rows(at, Math.min(count, rows - at))));
  return Float32Array.from(parts.flatMap((part) => [...part]));
}
