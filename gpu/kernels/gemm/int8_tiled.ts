/**
 * Matrix products of rows in `i8`, with exact sums, for GPUs: by `dot4I8Packed`, which multiplies four numbers by four.
 *
 * A workgroup stages a tile of either operand. An element is 16 numbers of a row, a vec4u.
 *
 * @module
 */
import { type KernelSource, unroll } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { TILE_ORDER } from "../product/product.ts";
import { epilogue, GEMM_PARAMS, gemmBuffers, scaledRows } from "./epilogue.ts";
import { gemmLoader } from "./loader.ts";

/** How a workgroup shares a tile of outputs. */
export interface Int8Tile {
  /** The number of threads along m, a multiple of 4, and along n, a multiple of 8. */
  readonly threads: readonly [m: number, n: number];
  /** The number of outputs of a thread along m, and along n, a multiple of 4. */
  readonly outputs: readonly [m: number, n: number];
  /** The length of the inner axis that is staged at once: 16, 32 or 64. */
  readonly depth: number;
  /** Whether a step's operands are read while those of the previous one are multiplied, at the cost of registers. */
  readonly ahead: boolean;
}

/** The outputs of a workgroup along m and n. */
export function int8TileSize({ threads, outputs }: Int8Tile): readonly [m: number, n: number] {
  return [threads[0] * outputs[0], threads[1] * outputs[1]];
}

/** The invocations of a workgroup. */
export function int8TileThreads({ threads }: Int8Tile): number {
  return threads[0] * threads[1];
}

/**
 * The distance between staged rows, in units of 16 bytes. It is odd, so that eight neighbouring rows lie in different
 * banks.
 */
const strideOf = (depth: number) => depth / 16 | 1;

/** The bytes of workgroup memory that a tile uses. */
export function int8TileBytes(tile: Int8Tile): number {
  const [m, n] = int8TileSize(tile);
  return 16 * (m + n) * strideOf(tile.depth);
}

/** A short name of a tile, for the names of kernels and variants. */
export function int8TileName(tile: Int8Tile): string {
  return `int8_${int8TileSize(tile).join("x")}_${tile.outputs.join("x")}_${tile.depth}${tile.ahead ? "_ahead" : ""}`;
}

/** Makes the kernel. k is a multiple of 16, n of 4. */
export const int8Tiled = memo((tile: Int8Tile): KernelSource => {
  const { threads, outputs, depth, ahead } = tile, [tileM, tileN] = int8TileSize(tile);
  const count = int8TileThreads(tile), perRow = depth / 16, stride = strideOf(depth);
  const each = (visit: (i: number, j: number) => string) =>
    unroll(outputs[0], (i) => unroll(outputs[1], (j) => visit(i, j)));
  // Threads take elements of x from the first one up, and of w from the last one down. Where there are fewer elements
  // than threads, most threads still have work.
  const side = (name: "x" | "w", height: number, thread: string, rowAt: (slot: string) => string) => {
    const elements = height * perRow, share = Math.ceil(elements / count);
    const slots = Array.from({ length: share }, (_, i) => `(${thread} / ${perRow}u + ${i * count / perRow}u)`);
    const guarded = (line: (i: number) => string) =>
      unroll(
        share,
        (i) =>
          (i + 1) * count > elements
            ? `    if (${thread} + ${i * count}u < ${elements}u) { ${line(i)} }`
            : `    ${line(i)}`,
      );
    const stage = guarded((i) => `${name}s[${slots[i]} * ${stride}u + ${name}_at] = ${name}${i};`);
    return { share, rows: slots.map(rowAt), guarded, stage };
  };
  // A thread stores four neighbouring columns at once. Rows of w are staged in an order in which the threads that read
  // together read neighbours.
  const wide = 4 * threads[1];
  const column = (slot: string) =>
    `(${slot} / ${wide}u * ${wide}u + ${slot} % ${threads[1]}u * 4u + ${slot} % ${wide}u / ${threads[1]}u)`;
  const x = side("x", tileM, "li", (slot) => slot), w = side("w", tileN, "from_last", column);
  const loader = gemmLoader({
    depth: perRow,
    length: "(p.k4 / 4u)",
    x: (at) => `x[${at}]`,
    w: (at) => `w[${at}]`,
    transposed: false,
  });
  const reading = `${x.guarded((i) => `x${i} = select(vec4u(), ${loader.x(i)}, ${loader.inside(i)});`)}
${w.guarded((i) => `w${i} = ${loader.w(i)};`)}`;
  const multiply = unroll(perRow, (k) =>
    `    {
${unroll(outputs[0], (i) => `      let a${i} = xs[x_from + ${i * threads[0] * stride + k}u];`)}
${
      unroll(outputs[1], (j) => {
        const b = `ws[w_from + ${j * threads[1] * stride + k}u]`;
        return `      { let b = ${b};
${
          unroll(4, (c) =>
            unroll(outputs[0], (i) => `        c${i}_${j} += dot4I8Packed(a${i}.${"xyzw"[c]}, b.${"xyzw"[c]});`))
        }
      }`;
      })
    }
    }`);
  return {
    name: `gemm_${int8TileName(tile)}`,
    buffers: { ...gemmBuffers("vec4u", "vec4u", "vec4f"), ...scaledRows.buffers },
    params: GEMM_PARAMS,
    workgroupSize: [count, 1, 1],
    declarations: `${epilogue("vec4f")}${scaledRows.store("vec4f")}
var<workgroup> xs: array<vec4u, ${tileM * stride}>;
var<workgroup> ws: array<vec4u, ${tileN * stride}>;`,
    // 32 neighbouring threads hold 4×8 squares of outputs: that arrangement reads the fewest numbers.
    body: `${TILE_ORDER}
  let m0 = wid_m * ${tileM}u;
  let n0 = wid_n * ${tileN}u;
  let square = li / 32u;
  let thread_n = square % ${threads[1] / 8}u * 8u + li % 8u;
  let thread_m = square / ${threads[1] / 8}u * 4u + li % 32u / 8u;
  let x_from = thread_m * ${stride}u;
  let w_from = thread_n * ${stride}u;
${each((i, j) => `  var c${i}_${j} = 0;`)}
${unroll(x.share, (i) => `  var x${i}: vec4u;`)}
${unroll(w.share, (i) => `  var w${i}: vec4u;`)}
  let from_last = ${count - 1}u - li;
  let x_at = li % ${perRow}u;
  let w_at = from_last % ${perRow}u;
${loader.begin(x.rows, w.rows)}
${ahead ? reading : ""}
  for (var done = 0u; done < ${loader.steps}; done++) {
${ahead ? "" : reading}
    workgroupBarrier();
${x.stage}
${w.stage}
    workgroupBarrier();
${loader.next(x.share)}
${ahead ? reading : ""}
${multiply}
  }
${
      unroll(outputs[0], (i) =>
        unroll(outputs[1] / 4, (g) => {
          const sums = [0, 1, 2, 3].map((c) => `c${i}_${4 * g + c}`).join(", ");
          return `  store_sums(m0 + thread_m + ${i * threads[0]}u, n0 + ${g * wide}u + 4u * thread_n, vec4i(${sums}));`;
        }))
    }`,
  };
});
