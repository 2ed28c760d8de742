/**
 * Matrix product of a linear layer, with what follows it fused in:
 *
 *     y[m, n] = residual[m, n] + gate[m / rows_per_batch, n] · act(Σ_k x[m, k] · w[n, k] + bias[n])
 *
 * Both operands are contiguous along k, so every load is a vec4 along k and the inner step a dot product of four.
 * Two shapes of the loop: `plain` for software adapters (no barrier, no workgroup memory, a block of outputs a thread)
 * and `tiled` for GPUs (blocks staged in workgroup memory, in f32 or f16; sums always in f32).
 *
 * Of each there is a form for the way back, `transposed`, that takes w[k, n]: its loads lie along n.
 *
 * @module
 */
import { type KernelSource, read, unroll, write } from "../kernel.ts";
import { memo } from "./memo.ts";
import { packedElement, unpack4, type WeightDtype } from "./packed.ts";

/** Activations a linear layer can end in; the numbers are what the kernel's `activation` parameter takes. */
export const ACTIVATIONS = { none: 0, gelu_tanh: 1, silu: 2 } as const;
export type Activation = keyof typeof ACTIVATIONS;

const BUFFERS = (dtype: WeightDtype) => ({
  x: read("vec4f"),
  w: read(packedElement(dtype)),
  bias: read("f32"),
  residual: read("f32"),
  gate: read("f32"),
  y: write("f32"),
});

const PARAMS = {
  m: "u32",
  n: "u32",
  /** k / 4 */
  k4: "u32",
  activation: "u32",
  has_bias: "u32",
  has_residual: "u32",
  has_gate: "u32",
  rows_per_batch: "u32",
  gate_offset: "u32",
  gate_stride: "u32",
} as const;

/** What happens to a finished sum. tanh is written with a clamp: some drivers overflow to NaN past ±10. */
export const ACTIVATE = `
fn gelu_tanh(x: f32) -> f32 {
  return 0.5 * x * (1.0 + tanh(clamp(0.7978845608028654 * (x + 0.044715 * x * x * x), -10.0, 10.0)));
}
fn silu(x: f32) -> f32 { return x / (1.0 + exp(-x)); }
fn activate(x: f32, kind: u32) -> f32 {
  if (kind == ${ACTIVATIONS.gelu_tanh}u) { return gelu_tanh(x); }
  if (kind == ${ACTIVATIONS.silu}u) { return silu(x); }
  return x;
}`;

const EPILOGUE = `${ACTIVATE}
fn store(m: u32, n: u32, sum: f32) {
  if (m >= p.m || n >= p.n) { return; }
  var v = sum;
  if (p.has_bias != 0u) { v += bias[n]; }
  v = activate(v, p.activation);
  if (p.has_gate != 0u) { v *= gate[(m / p.rows_per_batch) * p.gate_stride + p.gate_offset + n]; }
  if (p.has_residual != 0u) { v += residual[m * p.n + n]; }
  y[m * p.n + n] = v;
}`;

/** Outputs of one thread of {@link gemmPlain}, and threads of its workgroup along n and m. */
export const PLAIN = { rows: 8, cols: 8, threads: [8, 4] } as const;

/** For software adapters: each thread holds 8×8 sums and reads straight from memory. */
export const gemmPlain = memo((dtype: WeightDtype): KernelSource => ({
  name: `gemm_plain_${dtype}`,
  buffers: BUFFERS(dtype),
  params: PARAMS,
  workgroupSize: [PLAIN.threads[0], PLAIN.threads[1], 1],
  declarations: `${unpack4(dtype)}${EPILOGUE}`,
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
      `    { let b = unpack4(w[wr${j} + k]); ${
        unroll(PLAIN.rows, (i) =>
          `c${i * PLAIN.cols + j} += dot(x${i}, b);`)
      } }`)
  }
  }
${unroll(PLAIN.rows, (i) => unroll(PLAIN.cols, (j) => `  store(m0 + ${i}u, n0 + ${j}u, c${i * PLAIN.cols + j});`))}`,
}));

/** As {@link gemmPlain}, for w[k, n]; k and n multiples of 4. */
export const gemmPlainTransposed = memo((dtype: WeightDtype): KernelSource => ({
  name: `gemm_plain_transposed_${dtype}`,
  buffers: BUFFERS(dtype),
  params: PARAMS,
  workgroupSize: [PLAIN.threads[0], PLAIN.threads[1], 1],
  declarations: `${unpack4(dtype)}${EPILOGUE}`,
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
${unroll(4, (r) => `      let b${r} = unpack4(w[(4u * k + ${r}u) * n4 + wc${j}]);`)}
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

/** A variant of {@link gemmTiled}. */
export interface TiledGemm {
  readonly dtype: WeightDtype;
  /** Outputs a thread along m and along n; a workgroup has 16×16 threads. */
  readonly perThread: 4 | 8;
  /** Operands are staged in f16 and multiplied there; each product of four is added up in f32. */
  readonly f16: boolean;
}

/** vec4s along k in one staged block. */
const BLOCK_K4 = 4;

/** For GPUs: a workgroup of 16×16 threads stages blocks of x and w and computes a square block of y. */
export const gemmTiled = memo(({ dtype, perThread, f16 }: TiledGemm): KernelSource => {
  const tile = 16 * perThread, loads = tile * BLOCK_K4 / 256;
  const vec = f16 ? "vec4h" : "vec4f";
  return {
    name: `gemm_tiled_${tile}_${dtype}${f16 ? "_f16" : ""}`,
    f16,
    buffers: BUFFERS(dtype),
    params: PARAMS,
    workgroupSize: [16, 16, 1],
    declarations: `${unpack4(dtype)}${EPILOGUE}
var<workgroup> xs: array<${vec}, ${BLOCK_K4 * tile}>;
var<workgroup> ws: array<${vec}, ${BLOCK_K4 * tile}>;`,
    // Block layout [k4][row]: neighbouring threads read neighbouring vec4s. A thread's rows are 16 apart for the same reason.
    body: `  let n0 = wid.x * ${tile}u;
  let m0 = wid.y * ${tile}u;
${unroll(perThread * perThread, (i) => `  var c${i} = 0.0;`)}
  for (var kb = 0u; kb < p.k4; kb += ${BLOCK_K4}u) {
${
      unroll(loads, (i) =>
        `    {
      let at = li + ${i * 256}u;
      let k = kb + at % ${BLOCK_K4}u;
      let row = at / ${BLOCK_K4}u;
      let slot = (at % ${BLOCK_K4}u) * ${tile}u + row;
      let inside = k < p.k4;
      xs[slot] = ${vec}(select(vec4f(), x[min(m0 + row, p.m - 1u) * p.k4 + min(k, p.k4 - 1u)], inside));
      ws[slot] = ${vec}(unpack4(w[min(n0 + row, p.n - 1u) * p.k4 + min(k, p.k4 - 1u)]));
    }`)
    }
    workgroupBarrier();
    for (var k = 0u; k < ${BLOCK_K4 * tile}u; k += ${tile}u) {
${unroll(perThread, (i) => `      let a${i} = xs[k + ${16 * i}u + lid.y];`)}
${
      unroll(perThread, (j) =>
        `      { let b = ws[k + ${16 * j}u + lid.x]; ${
          unroll(perThread, (i) =>
            `c${i * perThread + j} += ${f16 ? `f32(dot(a${i}, b))` : `dot(a${i}, b)`};`)
        } }`)
    }
    }
    workgroupBarrier();
  }
${
      unroll(perThread, (i) =>
        unroll(perThread, (j) =>
          `  store(m0 + lid.y + ${16 * i}u, n0 + lid.x + ${16 * j}u, c${i * perThread + j});`))
    }`,
  };
});

/** A variant of {@link gemmTiledTransposed}. */
export type TransposedTiledGemm = Omit<TiledGemm, "f16">;

/**
 * As {@link gemmTiled}, for w[k, n]; k and n multiples of 4. Half of the threads stage x, the other half take 4×4 blocks
 * of w and transpose them on the way into workgroup memory. Only in f32: gradients may be smaller than f16 can tell from 0.
 */
export const gemmTiledTransposed = memo(({ dtype, perThread }: TransposedTiledGemm): KernelSource => {
  // So deep that 128 threads with four vec4s each stage one operand, whatever the tile.
  const tile = 16 * perThread, blocks = tile / 4, depth4 = 512 / tile;
  // Column 4·b + j of the tile lies in slot j·blocks + b, so that neighbouring threads write neighbouring vec4s.
  const column = (j: number) => `4u * (lid.x + ${16 * j % blocks}u) + ${Math.floor(16 * j / blocks)}u`;
  return {
    name: `gemm_tiled_transposed_${tile}_${dtype}`,
    buffers: BUFFERS(dtype),
    params: PARAMS,
    workgroupSize: [16, 16, 1],
    declarations: `${unpack4(dtype)}${EPILOGUE}
var<workgroup> xs: array<vec4f, 512>;
var<workgroup> ws: array<vec4f, 512>;`,
    body: `  let n0 = wid.x * ${tile}u;
  let m0 = wid.y * ${tile}u;
  let n4 = p.n / 4u;
${unroll(perThread * perThread, (i) => `  var c${i} = 0.0;`)}
  for (var kb = 0u; kb < p.k4; kb += ${depth4}u) {
    if (li < 128u) {
${
      unroll(4, (i) =>
        `      {
        let at = li + ${128 * i}u;
        let k = kb + at % ${depth4}u;
        let row = at / ${depth4}u;
        xs[(at % ${depth4}u) * ${tile}u + row] =
          select(vec4f(), x[min(m0 + row, p.m - 1u) * p.k4 + min(k, p.k4 - 1u)], k < p.k4);
      }`)
    }
    } else {
      let block = (li - 128u) % ${blocks}u;
      let deep = (li - 128u) / ${blocks}u;
      let at = 4u * min(kb + deep, p.k4 - 1u) * n4 + min(n0 / 4u + block, n4 - 1u);
${unroll(4, (r) => `      let b${r} = unpack4(w[at + ${r}u * n4]);`)}
      let slot = deep * ${tile}u + block;
${
      unroll(4, (j) => {
        const c = "xyzw"[j]!;
        return `      ws[slot + ${j * blocks}u] = vec4f(b0.${c}, b1.${c}, b2.${c}, b3.${c});`;
      })
    }
    }
    workgroupBarrier();
    for (var k = 0u; k < 512u; k += ${tile}u) {
${unroll(perThread, (i) => `      let a${i} = xs[k + ${16 * i}u + lid.y];`)}
${
      unroll(perThread, (j) =>
        `      { let b = ws[k + ${16 * j}u + lid.x]; ${
          unroll(perThread, (i) =>
            `c${i * perThread + j} += dot(a${i}, b);`)
        } }`)
    }
    }
    workgroupBarrier();
  }
${
      unroll(perThread, (i) =>
        unroll(perThread, (j) => `  store(m0 + lid.y + ${16 * i}u, n0 + ${column(j)}, c${i * perThread + j});`))
    }`,
  };
});
