/**
 * Matrix products of rows in `i8`, with exact sums, for GPUs: by `dot4I8Packed`, which multiplies four numbers by four.
 *
 * A workgroup stages a tile of either operand. Each thread reads 16 numbers of a row at once and stages them as four
 * words, so that four rows lie side by side: a step of the inner loop is one word of several rows of x, times one word of
 * several rows of w.
 *
 * @module
 */
import { type KernelSource, unroll } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { type OperandLoader, TILE_ORDER } from "../product/product.ts";
import { GEMM_PARAMS, gemmBuffers, type Output, outputOf, scaledRows } from "./epilogue.ts";
import { gemmLoader } from "./loader.ts";
import type { PanelShape } from "./pack.ts";

/** How a workgroup shares a tile of outputs. */
export interface Int8Tile {
  /** The number of threads along m, a multiple of 8, and along n, a multiple of 4. */
  readonly threads: readonly [m: number, n: number];
  /** The number of outputs of a thread along m and n; multiples of 4. */
  readonly outputs: readonly [m: number, n: number];
  /** The length of the inner axis that is staged at once: 16, 32 or 64. */
  readonly depth: number;
  /** Whether a step's operands are read while those of the previous one are multiplied, at the cost of registers. */
  readonly ahead: boolean;
  /**
   * The operands are in panels (see `pack.ts`) of the size of the tile, whose rows follow one another. What a workgroup
   * reads at once is then contiguous.
   */
  readonly packed?: true;
}

/** The outputs of a workgroup along m and n. */
export function int8TileSize({ threads, outputs }: Int8Tile): readonly [m: number, n: number] {
  return [threads[0] * outputs[0], threads[1] * outputs[1]];
}

/** The invocations of a workgroup. */
export function int8TileThreads({ threads }: Int8Tile): number {
  return threads[0] * threads[1];
}

/** The vec4s that are staged for a thread that has so many rows. They are odd, so that neighbours lie in other banks. */
const strideOf = (outputs: number, depth: number) => outputs * depth / 16 | 1;

/** The bytes of workgroup memory that a tile uses. */
export function int8TileBytes({ threads, outputs, depth }: Int8Tile): number {
  return 16 * (threads[0] * strideOf(outputs[0], depth) + threads[1] * strideOf(outputs[1], depth));
}

/** A short name of a tile, for the names of kernels and variants. */
export function int8TileName(tile: Int8Tile): string {
  const options = `${tile.ahead ? "_ahead" : ""}${tile.packed ? "_packed" : ""}`;
  return `int8_${int8TileSize(tile).join("x")}_${tile.outputs.join("x")}_${tile.depth}${options}`;
}

/** The panels that a packed tile reads. */
export function int8Panels(tile: Int8Tile): Readonly<Record<"x" | "w", PanelShape>> {
  const [x, w] = int8TileSize(tile), depth = tile.depth / 16;
  return { x: { rows: x, height: x, depth }, w: { rows: w, height: w, depth } };
}

/** A variant of {@link int8Tiled}. */
export interface Int8Gemm {
  readonly tile: Int8Tile;
  readonly output: Output;
}

/** Makes the kernel. k is a multiple of 16, n of 4. */
export const int8Tiled = memo(({ tile, output: as }: Int8Gemm): KernelSource => {
  const { threads, outputs, depth, ahead } = tile, [tileM, tileN] = int8TileSize(tile), count = int8TileThreads(tile);
  const loader = loaderOf(tile);
  const { x, w, read, stage } = staging(tile, loader), output = outputOf(as);
  return {
    name: `gemm_${int8TileName(tile)}${output.name}`,
    buffers: { ...gemmBuffers("vec4u", "vec4u", "vec4f", output.y), ...scaledRows.buffers, ...output.buffers },
    params: GEMM_PARAMS,
    workgroupSize: [count, 1, 1],
    // Each thread's operands lie together, so that it reads them at constant offsets from one place: naga clamps every
    // index that is not constant.
    declarations: `${output.epilogue}${scaledRows.store("vec4f")}
var<workgroup> xs: array<array<vec4u, ${strideOf(outputs[0], depth)}>, ${threads[0]}>;
var<workgroup> ws: array<array<vec4u, ${strideOf(outputs[1], depth)}>, ${threads[1]}>;`,
    // 32 neighbouring threads hold 8×4 squares of outputs, so that each eight, which read together, hold 2×4.
    body: `${TILE_ORDER}
  let m0 = wid_m * ${tileM}u;
  let n0 = wid_n * ${tileN}u;
  let square = li / 32u;
  let thread_n = square % ${threads[1] / 4}u * 4u + li % 4u;
  let thread_m = square / ${threads[1] / 4}u * 8u + li % 32u / 4u;
${eachSum(tile, (i, j) => `  var c${i}_${j} = 0;`)}
${unroll(x.each, (i) => `  var x${i}: vec4u;`)}
${unroll(w.each, (i) => `  var w${i}: vec4u;`)}
  let from_last = ${count - 1}u - li;
  let x_at = li % ${depth / 16}u;
  let w_at = from_last % ${depth / 16}u;
${loader.begin(x.rows, w.rows)}
${ahead ? read : ""}
  for (var done = 0u; done < ${loader.steps}; done++) {
${ahead ? "" : read}
    workgroupBarrier();
${stage}
    workgroupBarrier();
${loader.next(x.each)}
${ahead ? read : ""}
${multiply(tile)}
  }
${
      unroll(outputs[1] / 4, (g) =>
        `  let columns${g} = columns_at(n0 + ${rowOf(4 * g, threads[1], "thread_n")});
${
          unroll(outputs[0], (i) => {
            const sums = [0, 1, 2, 3].map((c) => `c${i}_${4 * g + c}`).join(", ");
            return `  store_sums(m0 + ${rowOf(i, threads[0], "thread_m")}, columns${g}, vec4i(${sums}));`;
          })
        }`)
    }`,
  };
});

/** WGSL: the i-th row of a thread in its tile. Four rows are neighbours, so that four outputs are stored at once. */
const rowOf = (i: number, threads: number, thread: string) => `${(i >> 2) * 4 * threads + (i & 3)}u + 4u * ${thread}`;

/** Repeats WGSL for each sum of a thread. */
const eachSum = ({ outputs }: Int8Tile, visit: (i: number, j: number) => string) =>
  unroll(outputs[0], (i) => unroll(outputs[1], (j) => visit(i, j)));

/** How the operands are read: w's elements from the last one down. */
function loaderOf(tile: Int8Tile): OperandLoader {
  const [tileM, tileN] = int8TileSize(tile), depth = tile.depth / 16, count = int8TileThreads(tile);
  if (!tile.packed) {
    const [x, w] = [(at: string) => `x[${at}]`, (at: string) => `w[${at}]`];
    return gemmLoader({ depth, length: "(p.k4 / 4u)", x, w, transposed: false });
  }
  const steps = `((p.k4 / 4u + ${depth - 1}u) / ${depth}u)`;
  const side = (name: "x" | "w", rows: number, thread: string) => ({
    begin: `  let ${name}_first = wid_${name === "x" ? "m" : "n"} * ${steps} * ${rows * depth}u + ${thread};`,
    element: (i: number) => `${name}[${name}_first + place * ${rows * depth}u + ${i * count}u]`,
  });
  const x = side("x", tileM, "li"), w = side("w", tileN, "from_last");
  return {
    begin: () => `  var place = 0u;\n${x.begin}\n${w.begin}`,
    steps,
    next: () => `    place = min(place + 1u, ${steps} - 1u);`,
    x: x.element,
    inside: () => "true",
    w: w.element,
  };
}

/** How a step's operands get into workgroup memory. */
function staging({ threads, outputs, depth }: Int8Tile, loader: OperandLoader) {
  const count = threads[0] * threads[1], perRow = depth / 16;
  // Threads take elements of x from the first one up, and of w from the last one down. Where there are fewer elements
  // than threads, most threads still have work.
  const side = (name: "x" | "w", axis: 0 | 1, thread: string, load: (i: number) => string) => {
    const height = threads[axis] * outputs[axis], elements = height * perRow, each = Math.ceil(elements / count);
    const rows = Array.from({ length: each }, (_, i) => `(${thread} / ${perRow}u + ${i * count / perRow}u)`);
    const guarded = (line: (i: number) => string) =>
      unroll(
        each,
        (i) =>
          (i + 1) * count > elements
            ? `    if (${thread} + ${i * count}u < ${elements}u) {\n${line(i)}\n    }`
            : line(i),
      );
    // The inverse of `rowOf`.
    const stage = (i: number) => {
      const owner = `${rows[i]} % ${4 * threads[axis]}u / 4u`, group = `${rows[i]} / ${4 * threads[axis]}u`;
      return unroll(4, (word) => {
        const at = `(4u * ${name}_at + ${word}u) * ${outputs[axis] / 4}u + ${group}`;
        return `    ${name}s[${owner}][${at}][${rows[i]} % 4u] = ${name}${i}[${word}];`;
      });
    };
    return { rows, each, read: guarded((i) => `    ${name}${i} = ${load(i)};`), stage: guarded(stage) };
  };
  const inside = (i: number) =>
    loader.inside(i) === "true" ? loader.x(i) : `select(vec4u(), ${loader.x(i)}, ${loader.inside(i)})`;
  const x = side("x", 0, "li", inside);
  const w = side("w", 1, "from_last", loader.w);
  return { x, w, read: `${x.read}\n${w.read}`, stage: `${x.stage}\n${w.stage}` };
}

/** Multiplies the staged operands, word by word of the inner axis. */
function multiply(tile: Int8Tile): string {
  const [ofX, ofW] = tile.outputs.map((outputs) => outputs / 4) as [number, number];
  return unroll(tile.depth / 4, (k) =>
    `    {
${unroll(ofX, (i) => `      let a${i} = xs[thread_m][${k * ofX + i}];`)}
${unroll(ofW, (j) => `      let b${j} = ws[thread_n][${k * ofW + j}];`)}
${
      eachSum(
        tile,
        (i, j) => `      c${i}_${j} += dot4I8Packed(a${i >> 2}.${"xyzw"[i & 3]}, b${j >> 2}.${"xyzw"[j & 3]});`,
      )
    }
    }`);
}
