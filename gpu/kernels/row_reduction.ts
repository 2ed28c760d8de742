/**
 * Kernels that reduce each row of a matrix have two forms of one body. On a GPU, a workgroup shares a row and sums it
 * through workgroup memory. On a software adapter, where barriers are expensive, each thread takes a row of its own.
 *
 * @module
 */
import { folded, unroll } from "../kernel.ts";

/** How a row kernel assigns rows to threads. */
export interface RowShape {
  readonly workgroupSize: readonly [number, number, number];
  /** The number of threads that share a row. */
  readonly lanes: number;
  /** WGSL that defines `row` and `lane`. A thread without a row must still reach the barriers. */
  readonly index: string;
  /** Module-scope WGSL that declares `row_sum(value, lane)`, the sum over the row's threads. */
  readonly declarations: string;
  /** The number of workgroups for `rows` rows. */
  workgroups(rows: number): readonly [number, number, number];
}

const LANES = 128;
/** The number of partial sums that one thread adds in the first step. */
const SHARE = 8;

/** A workgroup for each row. */
const SHARED: RowShape = {
  workgroupSize: [LANES, 1, 1],
  lanes: LANES,
  index: `let row = wid.y * nwg.x + wid.x; let lane = li;`,
  // There are two steps, and no barrier after the last: if a second sum follows, its first barrier separates it from
  // the reads of the first.
  declarations: `
var<workgroup> partial: array<f32, ${LANES}>;
var<workgroup> partial_sums: array<f32, ${LANES / SHARE}>;
fn row_sum(value: f32, lane: u32) -> f32 {
  partial[lane] = value;
  workgroupBarrier();
  if (lane < ${LANES / SHARE}u) {
    var sum = 0.0;
${unroll(SHARE, (i) => `    sum += partial[lane + ${i * LANES / SHARE}u];`)}
    partial_sums[lane] = sum;
  }
  workgroupBarrier();
  var sum = 0.0;
${unroll(LANES / SHARE, (i) => `  sum += partial_sums[${i}];`)}
  return sum;
}`,
  workgroups: folded,
};

/** A thread for each row. */
const ALONE: RowShape = {
  workgroupSize: [8, 1, 1],
  lanes: 1,
  index: `let row = (wid.y * nwg.x + wid.x) * 8u + li; let lane = 0u;`,
  declarations: `fn row_sum(value: f32, lane: u32) -> f32 { return value; }`,
  workgroups: (rows) => SHARED.workgroups(Math.ceil(rows / 8)),
};

/** Chooses the form: `plain`, without barriers, or shared. */
export function rowShape(plain: boolean): RowShape {
  return plain ? ALONE : SHARED;
}

/** How a kernel reads the vec4s of its row of `x`, which starts at `at` and has `p.dim4` of them. */
export interface RowVectors {
  /** WGSL that loads the held vec4s. */
  readonly load: string;
  /** WGSL that runs `body` for each of the thread's vec4s, given its name and its position in the row. */
  each(body: (v: string, i: string) => string): string;
}

/** The most vec4s of a row that a thread holds: 6144 channels, over the threads of a GPU's workgroup. */
const MOST_HELD = 12;

/**
 * How many vec4s {@link rowVectors} should hold. 0 means that they are read each time: one thread has the whole row, or
 * it is too long.
 */
export function heldVectors(plain: boolean, dim4: number): number {
  const each = Math.ceil(dim4 / LANES);
  return plain || each > MOST_HELD ? 0 : each;
}

/** @param held vec4s that each thread holds in registers, so that a row is read once however often it is used */
export function rowVectors({ lanes }: RowShape, held: number): RowVectors {
  if (held === 0) {
    return {
      load: "",
      each: (body) =>
        `  for (var i = lane; i < p.dim4; i += ${lanes}u) { let v = x[at + i];\n    ${body("v", "i")}\n  }`,
    };
  }
  return {
    load: unroll(held, (n) => `  let i${n} = lane + ${n * lanes}u; let v${n} = x[at + min(i${n}, p.dim4 - 1u)];`),
    each: (body) => unroll(held, (n) => `  if (i${n} < p.dim4) { ${body(`v${n}`, `i${n}`)} }`),
  };
}
