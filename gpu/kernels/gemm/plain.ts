/**
 * Matrix products for software adapters, and everywhere for outputs whose row length is no multiple of four. There are
 * no barriers and no workgroup memory; each thread computes a tile of outputs. Loads are vec4s along k, and the inner
 * step is a dot product of four numbers; for w[k, n], where vec4s lie along n, it is a sum of four products.
 *
 * @module
 */
import { type KernelSource, unroll } from "../../kernel.ts";
import { memo } from "../memo.ts";
import type { MatrixFormat } from "../../formats/format.ts";
import { epilogue, GEMM_PARAMS, gemmBuffers } from "./epilogue.ts";

/** The outputs of one thread of {@link gemmPlain}, and the threads of its workgroup along n and m. */
export const PLAIN = { rows: 8, cols: 8, threads: [8, 4] } as const;

/** A variant of {@link gemmPlain}. With `transposed`, it takes w[k, n], and k and n are multiples of 4. */
export interface PlainGemm {
  readonly weights: MatrixFormat;
  readonly transposed: boolean;
}

/** Makes the kernel: each thread holds 8×8 sums and reads straight from memory. */
export const gemmPlain = memo(({ weights, transposed }: PlainGemm): KernelSource => {
  const { four } = weights.read, width = transposed ? PLAIN.cols / 4 : PLAIN.cols;
  const rows = (line: (i: number) => string) => unroll(PLAIN.rows, line);
  const columns = (line: (j: number) => string) => unroll(width, line);
  const multiply = (j: number) =>
    transposed
      ? `    {
${unroll(4, (r) => `      let b${r} = unpack4(${four.read("w", `(4u * k + ${r}u) * n4 + wc${j}`)});`)}
${rows((i) => `      c${i * width + j} += x${i}.x * b0 + x${i}.y * b1 + x${i}.z * b2 + x${i}.w * b3;`)}
    }`
      : `    { let b = unpack4(${four.read("w", `wc${j} + k`)}); ${
        rows((i) => `c${i * width + j} += dot(x${i}, b);`)
      } }`;
  const sum = (i: number, j: number) => transposed ? `c${i * width + (j >> 2)}.${"xyzw"[j & 3]}` : `c${i * width + j}`;
  return {
    name: `gemm_plain_${transposed ? "transposed_" : ""}${weights}`,
    buffers: gemmBuffers("vec4f", four.element, "f32"),
    params: GEMM_PARAMS,
    workgroupSize: [PLAIN.threads[0], PLAIN.threads[1], 1],
    declarations: `${four.declare("w")}${four.unpack4}${epilogue("f32")}`,
    body: `  let n0 = gid.x * ${PLAIN.cols}u;
  let m0 = gid.y * ${PLAIN.rows}u;
  if (m0 >= p.m || n0 >= p.n) { return; }
${transposed ? "  let n4 = p.n / 4u;" : ""}
${rows((i) => `  let xr${i} = min(m0 + ${i}u, p.m - 1u) * p.k4;`)}
${
      columns((j) =>
        `  let wc${j} = ${transposed ? `min(n0 / 4u + ${j}u, n4 - 1u)` : `min(n0 + ${j}u, p.n - 1u) * p.k4`};`
      )
    }
${unroll(PLAIN.rows * width, (i) => `  var c${i} = ${transposed ? "vec4f()" : "0.0"};`)}
  for (var k = 0u; k < p.k4; k++) {
${rows((i) => `    let x${i} = x[xr${i} + k];`)}
${columns(multiply)}
  }
${rows((i) => unroll(PLAIN.cols, (j) => `  store(m0 + ${i}u, n0 + ${j}u, ${sum(i, j)});`))}`,
  };
});
