import type { AdapterDescription } from "./device/adapter.ts";
import type { Gpu } from "./gpu.ts";
import type { Operands } from "./precision.ts";
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

  /** The variant of a family to use: the one set by {@link choose}, else the family's first. */
  pick<V>(family: KernelFamily<V>): V {
    const picked = this.#picked.get(family.name);
    if (picked !== undefined) return picked as V;
    const variants = family.variants(this.gpu);
    const name = this.#chosen.get(family.name);
    const variant = variants.get(name !== undefined && variants.has(name) ? name : [...variants.keys()][0]!)!;
    this.#picked.set(family.name, variant);
    return variant;
  }

  /** Makes {@link pick} return the variant of that name from now on. */
  choose(family: string, variant: string): void {
    this.#chosen.set(family, variant);
    this.#picked.delete(family);
  }
}
