/**
 * Kernels that reduce each row of a matrix come in two shapes of one body: on a GPU a workgroup shares a row and adds
 * up through workgroup memory; on a software adapter, where barriers are dear, each thread takes a row of its own.
 *
 * @module
 */
import { folded, unroll } from "../kernel.ts";

/** How the threads of a row kernel are spread. */
export interface RowShape {
  readonly workgroupSize: readonly [number, number, number];
  /** Threads that share a row. */
  readonly lanes: number;
  /** WGSL that defines `row` and `lane`. A thread without a row must still meet the barriers. */
  readonly index: string;
  /** Module-scope WGSL with `row_sum(value, lane)`, the sum over the row's threads. */
  readonly declarations: string;
  /** Workgroups for so many rows. */
  workgroups(rows: number): readonly [number, number, number];
}

const LANES = 128;
/** Parts of a sum that one thread adds up in the first step. */
const SHARE = 8;

/** One row a workgroup. */
const SHARED: RowShape = {
  workgroupSize: [LANES, 1, 1],
  lanes: LANES,
  index: `let row = wid.y * nwg.x + wid.x; let lane = li;`,
  // Two steps, and no barrier after the last: a second sum's first barrier keeps it from what the first one still
  // reads.
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

/** One row a thread. */
const ALONE: RowShape = {
  workgroupSize: [8, 1, 1],
  lanes: 1,
  index: `let row = (wid.y * nwg.x + wid.x) * 8u + li; let lane = 0u;`,
  declarations: `fn row_sum(value: f32, lane: u32) -> f32 { return value; }`,
  workgroups: (rows) => SHARED.workgroups(Math.ceil(rows / 8)),
};

/** The shape for a kind of adapter. */
export function rowShape(software: boolean): RowShape {
  return software ? ALONE : SHARED;
}

/** How a kernel goes past the vec4s of its row of `x`, which begins at `at` and has `p.dim4` of them. */
export interface RowVectors {
  /** WGSL that reads what is held. */
  readonly load: string;
  /** WGSL that does `body` for each of the thread's vec4s: its name, and its place in the row. */
  each(body: (v: string, i: string) => string): string;
}

/** Vec4s of a row that a thread holds at most: 6144 channels, spread over the threads of a GPU's workgroup. */
const MOST_HELD = 12;

/** Vec4s for {@link rowVectors} to hold; 0 where a row is read anew each time: by one thread, or too long. */
export function heldVectors(software: boolean, dim4: number): number {
  const each = Math.ceil(dim4 / LANES);
  return software || each > MOST_HELD ? 0 : each;
}

/** @param held of each thread, in registers, so that a row is read once however often a kernel goes past it */
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
