/**
 * Products of small matrices, one per head: op(a)·op(b). Operands are read with strides, so that either may be
 * transposed. For a model's weights see `gemm/`, which is faster for large matrices.
 *
 * @module
 */
import { type KernelSource, read, u32s, unroll, write } from "../kernel.ts";
import { chosenHead, HEAD_PARAMS } from "./chosen_heads.ts";
import { memo } from "./memo.ts";
import type { MatrixFormat } from "../formats/format.ts";

const BUFFERS = (b: MatrixFormat) => ({
  a: read("f32"),
  b: read(b.read.one.element),
  added: read("f32"),
  head_ids: read("u32"),
  y: write("f32"),
});

const PARAMS = {
  ...u32s("m", "n", "k"),
  ...HEAD_PARAMS,
  /** numbers from one matrix, row and column of a to the next */
  ...u32s("a_matrix", "a_row", "a_column"),
  /** the number of b's matrices; after the last, the first is used again */
  b_count: "u32",
  ...u32s("b_matrix", "b_row", "b_column"),
  ...u32s("has_added", "added_matrix", "added_row"),
  scale: "f32",
} as const;

const DECLARATIONS = ({ read: { one } }: MatrixFormat) => `
${one.declare("b")}fn b_at(i: u32) -> f32 { return ${one.read("b", "i")}; }
fn store(matrix: u32, m: u32, n: u32, sum: f32) {
  if (m >= p.m || n >= p.n) { return; }
  var v = p.scale * sum;
  if (p.has_added != 0u) { v += added[matrix * p.added_matrix + m * p.added_row + n]; }
  y[(matrix * p.m + m) * p.n + n] = v;
}`;

/** Defines the matrix, and the offsets of its operands. */
const MATRIX = `${chosenHead("head", "wid.z % p.chosen")}
  let matrix = (wid.z / p.chosen) * p.heads + head;
  let a_first = matrix * p.a_matrix;
  let b_first = (matrix % p.b_count) * p.b_matrix;`;

/** The outputs of one thread of {@link matmulPlain}, along either axis. */
export const PLAIN_MATMUL = 4;

/** For software adapters: a thread holds 4×4 sums and reads straight from memory. Workgroups of 8×8 threads. */
export const matmulPlain = memo((b: MatrixFormat): KernelSource => ({
  name: `matmul_plain_${b}`,
  buffers: BUFFERS(b),
  params: PARAMS,
  workgroupSize: [8, 8, 1],
  declarations: DECLARATIONS(b),
  body: `  let n0 = gid.x * 4u;
  let m0 = gid.y * 4u;
  if (m0 >= p.m || n0 >= p.n) { return; }
${MATRIX}
${unroll(4, (i) => `  var ai${i} = a_first + min(m0 + ${i}u, p.m - 1u) * p.a_row;`)}
${unroll(4, (j) => `  var bi${j} = b_first + min(n0 + ${j}u, p.n - 1u) * p.b_column;`)}
${unroll(4, (i) => `  var c${i} = vec4f();`)}
  for (var k = 0u; k < p.k; k++) {
    let w = vec4f(b_at(bi0), b_at(bi1), b_at(bi2), b_at(bi3));
${unroll(4, (i) => `    c${i} += a[ai${i}] * w; ai${i} += p.a_column; bi${i} += p.b_row;`)}
  }
${unroll(4, (i) => unroll(4, (j) => `  store(matrix, m0 + ${i}u, n0 + ${j}u, c${i}.${"xyzw"[j]});`))}`,
}));

/** The outputs of a workgroup of {@link matmulTiled}, along either axis. */
export const TILED_MATMUL = 64;
/** The number of elements of the inner axis that are staged at once. */
const DEPTH = 16;

/** For GPUs: a workgroup of 16×16 threads stages tiles of both operands and holds 64×64 sums. */
export const matmulTiled = memo((b: MatrixFormat): KernelSource => ({
  name: `matmul_tiled_${b}`,
  buffers: BUFFERS(b),
  params: PARAMS,
  workgroupSize: [16, 16, 1],
  declarations: `${DECLARATIONS(b)}
// Rows are padded by one, so that neighbours along either axis lie in different banks.
var<workgroup> a_staged: array<f32, ${DEPTH * (TILED_MATMUL + 1)}>;
var<workgroup> b_staged: array<f32, ${DEPTH * (TILED_MATMUL + 1)}>;`,
  body: `  let n0 = wid.x * ${TILED_MATMUL}u;
  let m0 = wid.y * ${TILED_MATMUL}u;
${MATRIX}
${unroll(16, (i) => `  var c${i} = 0.0;`)}
  for (var k0 = 0u; k0 < p.k; k0 += ${DEPTH}u) {
${
    unroll(4, (i) =>
      `    {
      let at = li + ${256 * i}u;
      // Neighbouring threads go along the contiguous axis.
      let ak = select(at / ${TILED_MATMUL}u, at % ${DEPTH}u, p.a_column == 1u);
      let am = select(at % ${TILED_MATMUL}u, at / ${DEPTH}u, p.a_column == 1u);
      let bk = select(at / ${TILED_MATMUL}u, at % ${DEPTH}u, p.b_row == 1u);
      let bn = select(at % ${TILED_MATMUL}u, at / ${DEPTH}u, p.b_row == 1u);
      let av = a[a_first + min(m0 + am, p.m - 1u) * p.a_row + min(k0 + ak, p.k - 1u) * p.a_column];
      let bv = b_at(b_first + min(n0 + bn, p.n - 1u) * p.b_column + min(k0 + bk, p.k - 1u) * p.b_row);
      a_staged[ak * ${TILED_MATMUL + 1}u + am] = select(0.0, av, k0 + ak < p.k);
      b_staged[bk * ${TILED_MATMUL + 1}u + bn] = select(0.0, bv, k0 + bk < p.k);
    }`)
  }
    workgroupBarrier();
    for (var k = 0u; k < ${DEPTH * (TILED_MATMUL + 1)}u; k += ${TILED_MATMUL + 1}u) {
${unroll(4, (i) => `      let a${i} = a_staged[k + lid.y + ${16 * i}u];`)}
${
    unroll(4, (j) =>
      `      { let w = b_staged[k + lid.x + ${16 * j}u]; ${unroll(4, (i) => `c${4 * i + j} += a${i} * w;`)} }`)
  }
    }
    workgroupBarrier();
  }
${
    unroll(4, (i) =>
      unroll(4, (j) => `  store(matrix, m0 + lid.y + ${16 * i}u, n0 + lid.x + ${16 * j}u, c${4 * i + j});`))
  }`,
}));
