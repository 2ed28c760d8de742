/** The feature that a device must be opened with. */
export const MATRIX_FEATURE = "chromium-experimental-subgroup-matrix" as GPUFeatureName;

/** The sizes of products of m×k times k×n. */
export interface MatrixShape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/**
 * An adapter's matrix units: hardware that multiplies small matrices, each held by a whole subgroup ("tensor cores",
 * "cooperative matrices"). They compute products with f16 operands and f32 sums. WGSL uses them through
 * `chromium_experimental_subgroup_matrix`, which only Dawn has.
 */
export interface MatrixUnits extends MatrixShape {
  /** The invocations of a subgroup. */
  readonly subgroup: number;
  /** Their products with i8 operands and i32 sums, where they compute such. */
  readonly int8?: MatrixShape | undefined;
}

/** The sizes of products of such numbers. */
export function shapeOf(units: MatrixUnits, numbers: "f16" | "i8"): MatrixShape | undefined {
  return numbers === "f16" ? units : units.int8;
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
 * The largest products that an adapter offers. Undefined where there is none with f16 operands and f32 sums, or where
 * subgroups have no fixed size, so that a kernel cannot say how many subgroups its workgroup has.
 */
export function matrixUnits(info: GPUAdapterInfo): MatrixUnits | undefined {
  const { subgroupMinSize, subgroupMaxSize } = info;
  if (!subgroupMinSize || subgroupMinSize !== subgroupMaxSize) return undefined;
  const configs = [...(info as MatrixInfo).subgroupMatrixConfigs ?? []];
  const largest = (operands: string, sums: string): MatrixShape | undefined =>
    configs
      .filter(({ componentType, resultComponentType }) => componentType === operands && resultComponentType === sums)
      .map(({ M: m, N: n, K: k }) => ({ m, n, k }))
      .sort((a, b) => b.m * b.n * b.k - a.m * a.n * a.k)[0];
  const f16 = largest("f16", "f32");
  return f16 && { ...f16, subgroup: subgroupMinSize, int8: largest("i8", "i32") };
}
