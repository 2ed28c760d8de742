/**
 * How the operands of a matrix product are read.
 *
 * @module
 */
import { unroll } from "../../kernel.ts";
import type { OperandLoader, RowsLoaderOptions } from "../product/product.ts";

/**
 * Loads along k. Rows past the end repeat the last one.
 *
 * @param transposed w is stored as [k, n]. The four elements for a group of four rows are neighbours along n, for one
 * position of k
 */
export function gemmLoader(
  { depth, length, x, w, transposed }: RowsLoaderOptions & { readonly transposed: boolean },
): OperandLoader {
  const place = (at: string) => `min(first + ${at}, ${length} - 1u)`;
  return {
    begin: (xRows, wRows) =>
      `  var first = 0u;
${unroll(xRows.length, (i) => `  let x_row${i} = min(m0 + ${xRows[i]}, p.m - 1u) * ${length};`)}
${
        transposed
          ? unroll(wRows.length / 4, (i) => `  let w_row${i} = min((n0 + ${wRows[4 * i]}) / 4u, p.n / 4u - 1u);`)
          : unroll(wRows.length, (i) => `  let w_row${i} = min(n0 + ${wRows[i]}, p.n - 1u) * ${length};`)
      }`,
    steps: `(${length} + ${depth - 1}u) / ${depth}u`,
    next: () => `    first += ${depth}u;`,
    x: (i) => x(`x_row${i} + ${place("x_at")}`),
    inside: () => `first + x_at < ${length}`,
    w: (i) =>
      w(
        transposed
          ? `(4u * ${place("w_at")} + ${i % 4}u) * (p.n / 4u) + w_row${i >> 2}`
          : `w_row${i} + ${place("w_at")}`,
      ),
  };
}
