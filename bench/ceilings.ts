/**
 * What a device can do at most, by its maker's word.
 *
 * @module
 */

/** Of one device. */
export interface Ceiling {
  /** TFLOP/s of f32 arithmetic outside matrix units. */
  readonly f32: number;
  /** TFLOP/s of matrix units with 16-bit operands and f32 sums, without structured sparsity. */
  readonly matrix: number;
  /** Memory bandwidth, TB/s. */
  readonly memory: number;
}

/** By what an adapter's name has in it; the modules on sockets (SXM), whose datasheets these are from. */
const CEILINGS: readonly (readonly [name: RegExp, ceiling: Ceiling])[] = [
  [/h100(?!.*(pcie|nvl))/i, { f32: 67, matrix: 989, memory: 3.35 }],
  [/h200(?!.*nvl)/i, { f32: 67, matrix: 989, memory: 4.8 }],
];

/** That of the adapter; undefined where it is not known. */
export function ceilingOf(adapter: string): Ceiling | undefined {
  return CEILINGS.find(([name]) => name.test(adapter))?.[1];
}

/**
 * A rate beside the ceiling.
 *
 * @param tflops TFLOP/s
 * @param matrix whether matrix units made it
 * @returns as "35 % of 67", or "unknown"
 */
export function ofCeiling(adapter: string, tflops: number, matrix: boolean): string {
  const ceiling = ceilingOf(adapter)?.[matrix ? "matrix" : "f32"];
  return ceiling === undefined ? "unknown" : `${(100 * tflops / ceiling).toFixed(0)} % of ${ceiling}`;
}
