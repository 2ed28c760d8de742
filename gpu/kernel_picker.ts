import type { AdapterDescription } from "./device/adapter.ts";
import type { Gpu } from "./gpu.ts";
import type { Operands } from "./precision.ts";
import { defaultsFor } from "./tuning/defaults.ts";
import type { KernelFamily } from "./tuning/family.ts";

/**
 * Kinds of kernels. `plain` kernels have no barriers and no workgroup memory: on software adapters, barriers are
 * expensive, and workgroup memory is no faster than any other. `tiled` kernels stage their operands in workgroup
 * memory. `matrix` kernels do so too, and multiply by matrix units. `plain` kernels support only f32, `matrix` kernels
 * only f16.
 */
export type KernelKind = "plain" | "tiled" | "matrix";

/** The kind of kernels that suits an adapter at a precision. */
export function kernelKind(
  { software, matrixUnits }: Pick<AdapterDescription, "software" | "matrixUnits">,
  precision: Operands,
): KernelKind {
  if (precision === "f32") return software ? "plain" : "tiled";
  return matrixUnits ? "matrix" : "tiled";
}

/** Decides which kernels one `Gpu` runs: the kind of all, and the variant of each family. */
export class KernelPicker {
  readonly #chosen = new Map<string, string>();
  readonly #picked = new Map<string, unknown>();

  constructor(private readonly gpu: Gpu) {}

  /** Whether the device runs `plain` kernels; see {@link KernelKind}. */
  get plain(): boolean {
    return this.gpu.settings.kernels === "plain";
  }

  /** The variant of a family to use; see {@link reasonFor}. */
  pick<V>(family: KernelFamily<V>): V {
    const picked = this.#picked.get(family.name);
    if (picked !== undefined) return picked as V;
    const variant = family.variants(this.gpu).get(this.reasonFor(family).variant)!;
    this.#picked.set(family.name, variant);
    return variant;
  }

  /**
   * The name of the variant that {@link pick} returns, and why: it was "chosen" by {@link choose}, or it is the "shipped"
   * default for such adapters, or the family's "first", where there are no defaults.
   */
  reasonFor<V>(family: KernelFamily<V>): { readonly variant: string; readonly why: "chosen" | "shipped" | "first" } {
    const variants = family.variants(this.gpu),
      has = (name: string | undefined) => name !== undefined && variants.has(name);
    const chosen = this.#chosen.get(family.name), defaults = defaultsFor(this.gpu.settings);
    const shipped = defaults?.variants[family.name];
    if (has(chosen)) return { variant: chosen!, why: "chosen" };
    if (has(shipped)) return { variant: shipped!, why: "shipped" };
    return { variant: [...variants.keys()][0]!, why: defaults ? "shipped" : "first" };
  }

  /** Makes {@link pick} return the variant of that name from now on. */
  choose(family: string, variant: string): void {
    this.#chosen.set(family, variant);
    this.#picked.delete(family);
  }
}
