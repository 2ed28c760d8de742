/**
 * Pieces of the kernels for the way back through attention, and for its heat, on GPUs. A workgroup of 16×16 threads
 * holds a tile of 64 outer rows and walks tiles of 64 inner rows. All that they share passes through two areas of
 * workgroup memory: `stage` for operands, `probs` for a tile of weights; 32 KiB in all.
 *
 * @module
 */
import { unroll } from "../../kernel.ts";

/** Rows of a tile. */
export const TILE = 64;
/** Staging area for each operand of {@link products}, in vec4s. */
const HALF_STAGE = 512;

/** Element type of what is staged: sums are f32 in any case. */
export type Staged = "vec4f" | "vec4h";

/** The area that {@link products} alone needs. */
export const stageArea = (type: Staged): string => `var<workgroup> stage: array<${type}, ${2 * HALF_STAGE}>;`;

/** The two areas, in f32. */
export const WORKGROUP_AREAS = `
${stageArea("vec4f")}
var<workgroup> probs: array<vec4f, ${TILE * TILE / 4}>;`;

/** Rows of a tensor, as WGSL. */
export interface Rows {
  /** The buffer. */
  readonly from: string;
  /** Token of a row of the tile. */
  readonly token: (row: string) => string;
  /** Multiplies the numbers as they are staged. */
  readonly scale?: string;
}

/**
 * Scores of a tile: `${name}0` … `${name}15`, of which number 4i + j is the product of outer row lid.y + 16i with inner
 * row 4·lid.x + j.
 */
export function products(name: string, outer: Rows, inner: Rows, headDim: number, type: Staged): string {
  const d4 = headDim / 4, chunk = Math.min(8, d4); // vec4s along the head dimension staged at once
  const times = (a: string, b: string) => type === "vec4h" ? `f32(dot(${a}, ${b}))` : `dot(${a}, ${b})`;
  const loads = TILE * chunk / 256;
  const load = (side: string, n: number, { from, scale }: Rows) =>
    `${type}(${from}[${name}_${side}${n} + c0 + c]${scale ? ` * ${scale}` : ""})`;
  return `${unroll(16, (i) => `    var ${name}${i} = 0.0;`)}
    // The rows that a thread stages are the same for every chunk.
${
    unroll(loads, (n) =>
      `    let ${name}_outer${n} = ${outer.token(`(li / ${chunk}u + ${256 / chunk * n}u)`)} * p.dim4 + head;
    let ${name}_inner${n} = ${inner.token(`(li / ${chunk}u + ${256 / chunk * n}u)`)} * p.dim4 + head;`)
  }
    for (var c0 = 0u; c0 < ${d4}u; c0 += ${chunk}u) {
${
    unroll(loads, (n) =>
      `      {
        let i = li + ${256 * n}u;
        let c = i % ${chunk}u;
        let row = i / ${chunk}u;
        stage[c * ${TILE}u + row] = ${load("outer", n, outer)};
        // Row 4a+b goes to slot 16b+a, so that threads that take four in a row read neighbours.
        stage[${HALF_STAGE}u + c * ${TILE}u + (row % 4u) * 16u + row / 4u] = ${load("inner", n, inner)};
      }`)
  }
      workgroupBarrier();
      for (var c = 0u; c < ${chunk * TILE}u; c += ${TILE}u) {
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

/** How the threads share a tile's output rows: 4 (or, for small heads, fewer) rows by every 16th vec4 each. */
export class OutputTile {
  /** vec4s of a row. */
  readonly d4: number;
  /** Threads side by side on one row. */
  readonly across: number;
  /** vec4s of a row in one thread. */
  readonly cols: number;
  /** Rows of one thread. */
  readonly rows: number;

  constructor(headDim: number) {
    this.d4 = headDim / 4;
    this.across = Math.min(16, this.d4);
    this.cols = this.d4 / this.across;
    this.rows = 4 * this.across / 16;
  }

  /** Defines `out_col` and `out_row`, the thread's place. */
  get place(): string {
    return `  let out_col = lid.x % ${this.across}u;
  let out_row = lid.y + ${16 * this.rows}u * (lid.x / ${this.across}u);`;
  }

  /** Sums called `${name}…`, at zero. */
  sums(name: string): string {
    return unroll(this.rows * this.cols, (i) => `  var ${name}${i} = vec4f();`);
  }

  /** A line for each sum: its row of the tile, its vec4 of the head. */
  each(name: string, line: (sum: string, row: string, col: string) => string): string {
    return unroll(
      this.rows,
      (i) =>
        unroll(
          this.cols,
          (j) => line(`${name}${i * this.cols + j}`, `(out_row + ${16 * i}u)`, `(out_col + ${16 * j}u)`),
        ),
    );
  }

  /**
   * Adds the tile in `probs` times rows of a tensor to the sums. What was written to `probs` needs no barrier before.
   */
  accumulate(name: string, { from, token }: Rows): string {
    const { d4, rows, cols } = this;
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
  }
}

/** A tile of weights into `probs`: the four of outer row lid.y + 16i. */
export function storeWeights(weights: (i: number) => string): string {
  return unroll(4, (i) => `    probs[(lid.y + ${16 * i}u) * 16u + lid.x] = ${weights(i)};`);
}
