/**
 * Kernels that reduce each row of a matrix come in two shapes of one body: on a GPU a workgroup shares a row and adds up
 * through workgroup memory; on a software adapter, where barriers are dear, each thread takes a row of its own.
 *
 * @module
 */

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

/** One row a workgroup. */
const SHARED: RowShape = {
  workgroupSize: [LANES, 1, 1],
  lanes: LANES,
  index: `let row = wid.y * nwg.x + wid.x; let lane = li;`,
  declarations: `
var<workgroup> partial: array<f32, ${LANES}>;
fn row_sum(value: f32, lane: u32) -> f32 {
  partial[lane] = value;
  workgroupBarrier();
  for (var half = ${LANES / 2}u; half > 0u; half /= 2u) {
    if (lane < half) { partial[lane] += partial[lane + half]; }
    workgroupBarrier();
  }
  let sum = partial[0];
  workgroupBarrier();
  return sum;
}`,
  workgroups: (rows) => [Math.min(rows, 65535), Math.ceil(rows / 65535), 1],
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
