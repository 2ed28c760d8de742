/**
 * Matrix products for software adapters, and everywhere for outputs whose row length is no multiple of four. There are
 * no barriers and no workgroup memory; each thread computes a tile of outputs. Loads are vec4s along k, and the inner
 * step is a dot product of four numbers.
 *
 * @module
 */
import { type KernelSource, unroll } from "../../kernel.ts";
import { memo } from "../memo.ts";
import type { MatrixFormat } from "../../formats/format.ts";
import { epilogue, GEMM_PARAMS, gemmBuffers } from "./epilogue.ts";

/** The outputs of one thread of {@link gemmPlain}, and the threads of its workgroup along n and m. */
export const PLAIN = { rows: 8, cols: 8, threads: [8, 4] } as const;

/** Makes the kernel for software adapters: each thread holds 8×8 sums and reads straight from memory. */
export const gemmPlain = memo(({ name, read: { four } }: MatrixFormat): KernelSource => ({
  name: `gemm_plain_${name}`,
  buffers: gemmBuffers("vec4f", four.element, "f32"),
  params: GEMM_PARAMS,
  workgroupSize: [PLAIN.threads[0], PLAIN.threads[1], 1],
  declarations: `${four.declare("w")}${four.unpack4}${epilogue("f32")}`,
  body: `  let n0 = gid.x * ${PLAIN.cols}u;
  let m0 = gid.y * ${PLAIN.rows}u;
  if (m0 >= p.m || n0 >= p.n) { return; }
${unroll(PLAIN.rows, (i) => `  let xr${i} = min(m0 + ${i}u, p.m - 1u) * p.k4;`)}
${unroll(PLAIN.cols, (j) => `  let wr${j} = min(n0 + ${j}u, p.n - 1u) * p.k4;`)}
${unroll(PLAIN.rows * PLAIN.cols, (i) => `  var c${i} = 0.0;`)}
  for (var k = 0u; k < p.k4; k++) {
${unroll(PLAIN.rows, (i) => `    let x${i} = x[xr${i} + k];`)}
${
    unroll(PLAIN.cols, (j) =>
      `    { let b = unpack4(${four.read("w", `wr${j} + k`)}); ${
        unroll(PLAIN.rows, (i) =>
          `c${i * PLAIN.cols + j} += dot(x${i}, b);`)
      } }`)
  }
  }
${unroll(PLAIN.rows, (i) => unroll(PLAIN.cols, (j) => `  store(m0 + ${i}u, n0 + ${j}u, c${i * PLAIN.cols + j});`))}`,
}));

/** As {@link gemmPlain}, for w[k, n]. k and n are multiples of 4. */
export const gemmPlainTransposed = memo(({ name, read: { four } }: MatrixFormat): KernelSource => ({
  name: `gemm_plain_transposed_${name}`,
  buffers: gemmBuffers("vec4f", four.element, "f32"),
  params: GEMM_PARAMS,
  workgroupSize: [PLAIN.threads[0], PLAIN.threads[1], 1],
  declarations: `${four.declare("w")}${four.unpack4}${epilogue("f32")}`,
  body: `  let n0 = gid.x * ${PLAIN.cols}u;
  let m0 = gid.y * ${PLAIN.rows}u;
  if (m0 >= p.m || n0 >= p.n) { return; }
  let n4 = p.n / 4u;
${unroll(PLAIN.rows, (i) => `  let xr${i} = min(m0 + ${i}u, p.m - 1u) * p.k4;`)}
${unroll(PLAIN.cols / 4, (j) => `  let wc${j} = min(n0 / 4u + ${j}u, n4 - 1u);`)}
${unroll(PLAIN.rows * PLAIN.cols / 4, (i) => `  var c${i} = vec4f();`)}
  for (var k = 0u; k < p.k4; k++) {
${unroll(PLAIN.rows, (i) => `    let x${i} = x[xr${i} + k];`)}
${
    unroll(PLAIN.cols / 4, (j) =>
      `    {
${unroll(4, (r) => `      let b${r} = unpack4(${four.read("w", `(4u * k + ${r}u) * n4 + wc${j}`)});`)}
${
        unroll(PLAIN.rows, (i) =>
          `      c${i * PLAIN.cols / 4 + j} += x${i}.x * b0 + x${i}.y * b1 + x${i}.z * b2 + x${i}.w * b3;`)
      }
    }`)
  }
  }
${
    unroll(PLAIN.rows, (i) =>
      unroll(PLAIN.cols, (j) =>
        `  store(m0 + ${i}u, n0 + ${j}u, c${i * PLAIN.cols / 4 + (j >> 2)}.${"xyzw"[j & 3]});`))
  }`,
}));
