import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { readFloat32 } from "../checkpoint/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../checkpoint/write_safetensors.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import { type AdamWOptions, adamwStep } from "../training/adamw.ts";
import { type Router, routerFor, type RouterShape } from "./router.ts";
import { loadRouter } from "./router_file.ts";
import { settingsMetadata, type SettingsOfGrids } from "./settings.ts";

const MEAN = "exp_avg.", SQUARE = "exp_avg_sq.", AVERAGE = "average.";

/**
 * A router and its optimizer between two steps. A checkpoint is a safetensors file of the router, the optimizer's
 * moments, and the options of the training. It loads like any other router file.
 */
export class OptimizedRouter {
  /**
   * @param router in training
   * @param mean, square the running means of the gradients and of the squared gradients
   * @param average the moving average of the router
   */
  private constructor(
    readonly router: Router,
    private readonly mean: Router,
    private readonly square: Router,
    readonly average: Router,
  ) {}

  /** The state before the first step. */
  static start(router: Router): OptimizedRouter {
    return new OptimizedRouter(router, router.zeros(), router.zeros(), copyOf(router));
  }

  /**
   * Reads a checkpoint.
   *
   * @throws {TilereelError} if it is damaged, or of another model
   */
  static async load(checkpoint: TensorSource, model: RouterShape): Promise<OptimizedRouter> {
    const { path } = checkpoint, router = routerFor((await loadRouter(path)).router, model, path);
    const moments = async (prefix: string) => {
      const into = router.zeros();
      for (const [name, { data, shape }] of into.parameters()) {
        const values = await readFloat32(checkpoint, prefix + name);
        if (checkpoint.info(prefix + name).shape.join() !== shape.join()) {
          throw new TilereelError(
            `${path} is not a checkpoint: ${quoted(prefix + name)} and ${
              quoted(name)
            } have different shapes; train again into another folder`,
          );
        }
        data.set(values);
      }
      return into;
    };
    const averaged = checkpoint.names().some((name) => name.startsWith(AVERAGE));
    const average = averaged ? await moments(AVERAGE) : copyOf(router);
    return new OptimizedRouter(router, await moments(MEAN), await moments(SQUARE), average);
  }

  /**
   * Takes a step of the optimizer.
   *
   * @param step counts from 1
   * @param options `average` is the factor by which it keeps the moving averages
   */
  update(gradient: Router, step: number, options: AdamWOptions & { readonly average?: number }): void {
    const [means, squares, gradients] = [this.mean, this.square, gradient].map(parametersOf);
    for (const [i, data] of parametersOf(this.router).entries()) {
      adamwStep({ data, gradient: gradients![i]!, mean: means![i]!, square: squares![i]! }, step, options);
    }
    const { average: keep = 0 } = options, averages = parametersOf(this.average);
    for (const [i, data] of parametersOf(this.router).entries()) {
      const average = averages[i]!;
      for (const [j, x] of data.entries()) average[j] = keep * average[j]! + (1 - keep) * x;
    }
  }

  /**
   * Writes a checkpoint. It appears, or replaces the previous one, only when it is complete.
   *
   * @param more other tensors that the training resumes from
   * @throws {TilereelError} if it cannot be written
   */
  async save(
    path: string,
    settings: SettingsOfGrids,
    metadata: Readonly<Record<string, string>>,
    more: Readonly<Record<string, TensorToWrite>> = {},
  ): Promise<void> {
    const tensors: Record<string, TensorToWrite> = { ...more };
    const all = [["", this.router], [MEAN, this.mean], [SQUARE, this.square], [AVERAGE, this.average]] as const;
    for (const [prefix, values] of all) {
      for (const [name, tensor] of values.parameters()) tensors[prefix + name] = { dtype: "F32", ...tensor };
    }
    await writeSafetensors(path, tensors, { ...settingsMetadata(settings), ...metadata });
  }
}

/** The arrays of all weights and biases. */
export function parametersOf(router: Router): Float32Array[] {
  return [...router.parameters().values()].map(({ data }) => data);
}

function copyOf(router: Router): Router {
  const copy = router.zeros(), from = parametersOf(router);
  for (const [i, data] of parametersOf(copy).entries()) data.set(from[i]!);
  return copy;
}
