/**
 * Products of many small matrices.
 *
 * @module
 */
import type { Gpu } from "../gpu.ts";
import { type KernelSource, read, unroll, write } from "../kernel.ts";
import { memo } from "../kernels/memo.ts";
import type { Tensor } from "../tensor.ts";

/** Rows of one thread, each with four columns. */
const ROWS = 4;

const kernel = memo((transposed: boolean): KernelSource => ({
  name: `batched_product${transposed ? "_transposed" : ""}`,
  buffers: { a: read("f32"), b: read("vec4f"), ids: read("u32"), y: write("vec4f") },
  params: { rows: "u32", inner: "u32", columns4: "u32", scale: "f32", has_ids: "u32" },
  workgroupSize: [8, 8, 1],
  body: `  let row = gid.y * ${ROWS}u;
  if (gid.x >= p.columns4 || row >= p.rows) { return; }
  let item = select(wid.z, ids[wid.z], p.has_ids != 0u);
  let a_at = item * p.rows * p.inner;
  let b_at = item * p.inner * p.columns4 + gid.x;
  let last = p.rows - 1u;
${unroll(ROWS, (i) => `  let row${i} = min(row + ${i}u, last); var sum${i} = vec4f();`)}
  for (var k = 0u; k < p.inner; k++) {
    let t = b[b_at + k * p.columns4];
${unroll(ROWS, (i) => `    sum${i} += a[a_at + ${transposed ? `k * p.rows + row${i}` : `row${i} * p.inner + k`}] * t;`)}
  }
  let y_at = item * p.rows * p.columns4 + gid.x;
${unroll(ROWS, (i) => `  if (row + ${i}u <= last) { y[y_at + row${i} * p.columns4] = p.scale * sum${i}; }`)}`,
}));

/** What {@link batchedProduct} may be told. */
export interface BatchedProductOptions {
  /** Multiplies with the transpose of a. */
  readonly transposed?: boolean;
  /** Default 1 */
  readonly scale?: number;
  /** [batch, m, n], f32: written instead of a new tensor. */
  readonly into?: Tensor;
  /** [n], u32: the items of the batch to compute; others are left as they are. Default all. */
  readonly only?: Tensor | undefined;
}

/**
 * scale · a·b for each of a batch, or scale · aᵀ·b.
 *
 * @param a [batch, m, k], or transposed [batch, k, m]; f32
 * @param b [batch, k, n], f32; n a multiple of 4
 * @returns [batch, m, n], f32
 */
export function batchedProduct(gpu: Gpu, a: Tensor, b: Tensor, options: BatchedProductOptions = {}): Tensor {
  const { transposed = false, scale = 1, only } = options;
  const [batch, ...sides] = a.shape as [number, number, number];
  const [inner, rows] = transposed ? sides : sides.toReversed() as [number, number];
  const columns = b.dim(2);
  if (b.dim(0) !== batch || b.dim(1) !== inner || columns % 4 !== 0) {
    throw new Error(`batchedProduct: [${a.shape}]${transposed ? "ᵀ" : ""} and [${b.shape}]`);
  }
  const y = options.into ?? gpu.tensor([batch, rows, columns]);
  if (y.size !== batch * rows * columns) throw new Error(`batchedProduct: into [${y.shape}]`);
  gpu.run(kernel(transposed), {
    buffers: { a, b, ids: only ?? gpu.placeholder, y },
    params: { rows, inner, columns4: columns / 4, scale, has_ids: only ? 1 : 0 },
    workgroups: [Math.ceil(columns / 32), Math.ceil(rows / (8 * ROWS)), only?.dim(0) ?? batch],
  });
  return y;
}
