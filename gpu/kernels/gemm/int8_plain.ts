/**
 * Matrix products of rows in `i8`, with exact sums, for software adapters and for sizes that no other kernel takes.
 * There are no barriers and no workgroup memory; each thread computes a tile of outputs. A step is a word of either
 * operand: four products.
 *
 * @module
 */
import { type KernelSource, unroll } from "../../kernel.ts";
import { epilogue, GEMM_PARAMS, gemmBuffers, scaledRows } from "./epilogue.ts";

/** The outputs of one thread, and the threads of its workgroup along n and m. */
export const INT8_PLAIN = { rows: 8, cols: 8, threads: [8, 4] } as const;

const { rows: ROWS, cols: COLS, threads: THREADS } = INT8_PLAIN;
const rows = (line: (i: number) => string) => unroll(ROWS, line);
const columns = (line: (j: number) => string) => unroll(COLS, line);

export const int8Plain: KernelSource = {
  name: "gemm_int8_plain",
  buffers: { ...gemmBuffers("u32", "u32", "f32"), ...scaledRows.buffers },
  params: GEMM_PARAMS,
  workgroupSize: [THREADS[0], THREADS[1], 1],
  declarations: `${epilogue("f32")}${scaledRows.store("f32")}`,
  body: `  let n0 = gid.x * ${COLS}u;
  let m0 = gid.y * ${ROWS}u;
  if (m0 >= p.m || n0 >= p.n) { return; }
${rows((i) => `  let xr${i} = min(m0 + ${i}u, p.m - 1u) * p.k4;`)}
${columns((j) => `  let wc${j} = min(n0 + ${j}u, p.n - 1u) * p.k4;`)}
${unroll(ROWS * COLS, (i) => `  var c${i} = 0;`)}
  for (var k = 0u; k < p.k4; k++) {
${rows((i) => `    let x${i} = x[xr${i} + k];`)}
${columns((j) => `    { let b = w[wc${j} + k]; ${rows((i) => `c${i * COLS + j} += dot4I8Packed(x${i}, b);`)} }`)}
  }
${
    columns((j) =>
      `  let columns${j} = columns_at(n0 + ${j}u);
${rows((i) => `  store_sums(m0 + ${i}u, columns${j}, c${i * COLS + j});`)}`
    )
  }`,
};
