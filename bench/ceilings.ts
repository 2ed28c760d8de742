/**
 * The peak rates of devices, from their datasheets.
 *
 * @module
 */

/**
 * TFLOP/s by the adapter's name: of f32 arithmetic outside matrix units, and of matrix units with 16-bit operands and
 * f32 sums, without structured sparsity. The datasheets are those of modules on sockets (SXM).
 */
const CEILINGS = [{ name: /h100(?!.*(pcie|nvl))|h200(?!.*nvl)/i, f32: 67, matrix: 989 }];

/**
 * Compares a rate with the ceiling.
 *
 * @param tflops TFLOP/s
 * @param matrix whether matrix units were used
 * @returns a text such as "35 % of 67", or "unknown"
 */
export function ofCeiling(adapter: string, tflops: number, matrix: boolean): string {
  const ceiling = CEILINGS.find(({ name }) => name.test(adapter))?.[matrix ? "matrix" : "f32"];
  return ceiling === undefined ? "unknown" : `${(100 * tflops / ceiling).toFixed(0)} % of ${ceiling}`;
}
