/**
 * Parts of the backward kernels of attention, and of its heat, for GPUs. A workgroup of 16×16 threads holds a tile of
 * 64 outer rows and loops over tiles of 64 inner rows. All shared data passes through two areas of workgroup memory, 32
 * KiB in all: `stage` for operands and `probs` for a tile of weights.
 *
 * @module
 */
import { unroll } from "../../kernel.ts";

/** The number of rows of a tile. */
export const TILE = 64;
/** The size of the staging area for each operand of {@link products}, in vec4s. */
const HALF_STAGE = 512;

/** The element type of staged operands. Sums are always f32. */
export type Staged = "vec4f" | "vec4h";

/** Declares the area that {@link products} alone needs. */
export const stageArea = (type: Staged): string => `var<workgroup> stage: array<${type}, ${2 * HALF_STAGE}>;`;

/** Declares the two areas, in f32. */
export const WORKGROUP_AREAS = `
${stageArea("vec4f")}
var<workgroup> probs: array<vec4f, ${TILE * TILE / 4}>;`;

/** Describes the rows of a tensor, as WGSL. */
export interface Rows {
  /** The name of the buffer. */
  readonly from: string;
  /** The token of a row of the tile. */
  readonly token: (row: string) => string;
  /** A factor for the numbers, applied as they are staged. */
  readonly scale?: string;
}

/**
 * Scores of a tile: `${name}0` … `${name}15`, of which number 4i + j is the product of outer row lid.y + 16i with inner
 * row 4·lid.x + j.
 */
export function products(name: string, outer: Rows, inner: Rows, headDim: number, type: Staged): string {
  const d4 = headDim / 4, depth = Math.min(8, d4); // vec4s along the head dimension that are staged at once
  const times = (a: string, b: string) => type === "vec4h" ? `f32(dot(${a}, ${b}))` : `dot(${a}, ${b})`;
  const loads = TILE * depth / 256;
  const load = (side: string, n: number, { from, scale }: Rows) =>
    `${type}(${from}[${name}_${side}${n} + c0 + c]${scale ? ` * ${scale}` : ""})`;
  return `${unroll(16, (i) => `    var ${name}${i} = 0.0;`)}
    // A thread stages the same rows in every step.
${
    unroll(loads, (n) =>
      `    let ${name}_outer${n} = ${outer.token(`(li / ${depth}u + ${256 / depth * n}u)`)} * p.dim4 + head;
    let ${name}_inner${n} = ${inner.token(`(li / ${depth}u + ${256 / depth * n}u)`)} * p.dim4 + head;`)
  }
    for (var c0 = 0u; c0 < ${d4}u; c0 += ${depth}u) {
${
    unroll(loads, (n) =>
      `      {
        let i = li + ${256 * n}u;
        let c = i % ${depth}u;
        let row = i / ${depth}u;
        stage[c * ${TILE}u + row] = ${load("outer", n, outer)};
        // Row 4a+b goes to slot 16b+a, so that threads that read four rows each read neighbouring slots.
        stage[${HALF_STAGE}u + c * ${TILE}u + (row % 4u) * 16u + row / 4u] = ${load("inner", n, inner)};
      }`)
  }
      workgroupBarrier();
      for (var c = 0u; c < ${depth * TILE}u; c += ${TILE}u) {
${unroll(4, (i) => `        let a${i} = stage[c + ${16 * i}u + lid.y];`)}
${
    unroll(4, (j) =>
      `        { let b = stage[${HALF_STAGE + 16 * j}u + c + lid.x]; ${
        unroll(4, (i) =>
          `${name}${4 * i + j} += ${times(`a${i}`, "b")};`)
      } }`)
  }
      }
      workgroupBarrier();
    }`;
}

/** The parts of a kernel that sum a tile's outputs. */
export type OutputTile = ReturnType<typeof outputTile>;

/**
 * How the threads share a tile's output rows. Each holds 4 rows (fewer for small heads), and every 16th vec4 of them.
 */
export function outputTile(headDim: number) {
  /** The vec4s of a row, the threads on one row, and the vec4s and rows that one thread holds. */
  const d4 = headDim / 4, across = Math.min(16, d4), cols = d4 / across, rows = 4 * across / 16;
  return {
    /** Defines `out_col` and `out_row`, the thread's position. */
    place: `  let out_col = lid.x % ${across}u;
  let out_row = lid.y + ${16 * rows}u * (lid.x / ${across}u);`,
    /** Declares sums called `${name}…`, with the value zero. */
    sums: (name: string) => unroll(rows * cols, (i) => `  var ${name}${i} = vec4f();`),
    /** Repeats a line for each sum, given its row of the tile and its vec4 of the head. */
    each: (name: string, line: (sum: string, row: string, col: string) => string) =>
      unroll(
        rows,
        (i) => unroll(cols, (j) => line(`${name}${i * cols + j}`, `(out_row + ${16 * i}u)`, `(out_col + ${16 * j}u)`)),
      ),
    /**
     * Adds the product of the tile in `probs` and rows of a tensor to the sums. It contains the barrier that `probs`
     * needs.
     */
    accumulate(name: string, { from, token }: Rows): string {
      const staged = Math.min(TILE, 2 * HALF_STAGE / d4); // rows staged at once
      const side = Math.min(8, d4), step = 256 / side; // threads side by side on one row, rows that all threads stage
      return `    for (var r0 = 0u; r0 < ${TILE}u; r0 += ${staged}u) {
${
        unroll(staged / step, (n) =>
          `      {
        let row = li / ${side}u + ${step * n}u;
        let source = ${token("(r0 + row)")} * p.dim4 + head + li % ${side}u;
        let slot = row * ${d4}u + li % ${side}u;
${unroll(d4 / side, (c) => `        stage[slot + ${side * c}u] = ${from}[source + ${side * c}u];`)}
      }`)
      }
      workgroupBarrier();
      for (var g = 0u; g < ${staged / 4}u; g++) {
${unroll(rows, (i) => `        let w${i} = probs[(out_row + ${16 * i}u) * 16u + r0 / 4u + g];`)}
${
        unroll(cols, (j) =>
          `        {
${unroll(4, (k) => `          let t${k} = stage[(g * 4u + ${k}u) * ${d4}u + out_col + ${16 * j}u];`)}
${
            unroll(rows, (i) => {
              const sum = `w${i}.x * t0 + w${i}.y * t1 + w${i}.z * t2 + w${i}.w * t3`;
              return `          ${name}${i * cols + j} += ${sum};`;
            })
          }
        }`)
      }
      }
      workgroupBarrier();
    }`;
    },
  };
}

/** Writes a tile of weights to `probs`: a thread writes the four of outer row lid.y + 16i. */
export function storeWeights(weights: (i: number) => string): string {
  return unroll(4, (i) => `    probs[(lid.y + ${16 * i}u) * 16u + lid.x] = ${weights(i)};`);
}
