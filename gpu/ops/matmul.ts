import type { Gpu } from "../gpu.ts";
import { matmulPlain, matmulTiled, PLAIN_MATMUL, TILED_MATMUL } from "../kernels/matmul.ts";
import type { Tensor } from "../tensor.ts";
import { chosenHeads, type Heads } from "../kernels/chosen_heads.ts";

export interface MatmulOptions extends Partial<Heads> {
  /** The number of heads of a batch item. Default: the number of matrices of a. */
  readonly heads?: number;
  /** a is stored as [k, m]. */
  readonly transposeA?: boolean;
  /** b is stored as [n, k]. */
  readonly transposeB?: boolean;
  /** How many elements along k are multiplied, from the first on. Default: as many as b has */
  readonly inner?: number;
  /** The factor for the product. Default: 1 */
  readonly scale?: number;
  /** [batch · heads, m, at least n], f32: the first n columns are added last. */
  readonly added?: Tensor;
  /** [batch · heads, m, n], f32: where to write the result, instead of to a new tensor. Other heads are not written. */
  readonly into?: Tensor;
}

/**
 * y = scale · op(a)·op(b) + added for each matrix, in f32 whatever the device's precision is.
 *
 * @param a [batch · heads, m, k], f32
 * @param b [batch · heads or heads, k, n], f32, bf16 or f16
 * @returns [batch · heads, m, n], f32
 */
export function matmul(gpu: Gpu, a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const { heads = a.dim(0), only, transposeA = false, transposeB = false, scale = 1, added } = options;
  const [matrices, aRows, aColumns] = a.shape as [number, number, number];
  const [bCount, bRows, bColumns] = b.shape as [number, number, number];
  const m = transposeA ? aColumns : aRows, n = transposeB ? bRows : bColumns;
  const k = options.inner ?? (transposeB ? bColumns : bRows);
  const fits = k <= (transposeA ? aRows : aColumns) && k <= (transposeB ? bColumns : bRows) &&
    (bCount === matrices || bCount === heads) && matrices % heads === 0 &&
    (!added || added.dim(0) === matrices && added.dim(1) === m && added.dim(2) >= n);
  if (!fits) throw new Error(`matmul: [${a.shape}] · [${b.shape}]${added ? ` + [${added.shape}]` : ""}`);
  const y = options.into ?? gpu.tensor([matrices, m, n]);
  if (y.size !== matrices * m * n) throw new Error(`matmul: [${a.shape}] · [${b.shape}] into [${y.shape}]`);
  const { chosen, head_ids, params } = chosenHeads(gpu, { heads, only });
  const step = gpu.kernels.plain ? 8 * PLAIN_MATMUL : TILED_MATMUL;
  gpu.run((gpu.kernels.plain ? matmulPlain : matmulTiled)(b.matrixFormat), {
    buffers: { a, b, added: added ?? gpu.placeholder, head_ids, y },
    params: {
      ...{ ...params, m, n, k, scale },
      ...{ a_matrix: aRows * aColumns, a_row: transposeA ? 1 : aColumns, a_column: transposeA ? aColumns : 1 },
      ...{ b_matrix: bRows * bColumns, b_row: transposeB ? 1 : bColumns, b_column: transposeB ? bColumns : 1 },
      b_count: bCount,
      ...{ has_added: added ? 1 : 0, added_matrix: added ? m * added.dim(2) : 0, added_row: added?.dim(2) ?? 0 },
    },
    workgroups: [Math.ceil(n / step), Math.ceil(m / step), matrices / heads * chosen],
  });
  return y;
}
