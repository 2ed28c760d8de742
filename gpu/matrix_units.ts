/** The feature that a device must be opened with. */
export const MATRIX_FEATURE = "chromium-experimental-subgroup-matrix" as GPUFeatureName;

/**
 * An adapter's matrix units: hardware that multiplies small matrices, each held by a whole subgroup ("tensor cores",
 * "cooperative matrices"). They compute products of m×k times k×n, with f16 operands and f32 sums. WGSL uses them
 * through `chromium_experimental_subgroup_matrix`, which only Dawn has.
 */
export interface MatrixUnits {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** The invocations of a subgroup. */
  readonly subgroup: number;
}

/** Dawn's additions to `GPUAdapterInfo`. */
interface MatrixInfo {
  readonly subgroupMatrixConfigs?: Iterable<{
    readonly M: number;
    readonly N: number;
    readonly K: number;
    readonly componentType: string;
    readonly resultComponentType: string;
  }>;
}

/**
 * The largest product that an adapter offers with f16 operands and f32 sums. Undefined where there is none, or where
 * subgroups have no fixed size, so that a kernel cannot say how many subgroups its workgroup has.
 */
export function matrixUnits(info: GPUAdapterInfo): MatrixUnits | undefined {
  const { subgroupMinSize, subgroupMaxSize } = info;
  if (!subgroupMinSize || subgroupMinSize !== subgroupMaxSize) return undefined;
  return [...(info as MatrixInfo).subgroupMatrixConfigs ?? []]
    .filter(({ componentType, resultComponentType }) => componentType === "f16" && resultComponentType === "f32")
    .map(({ M: m, N: n, K: k }) => ({ m, n, k, subgroup: subgroupMinSize }))
    .sort((a, b) => b.m * b.n * b.k - a.m * a.n * a.k)[0];
}
