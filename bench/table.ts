/** A Markdown table with aligned columns. The first row is the heading. Columns of numbers are aligned to the right. */
export function markdownTable(rows: readonly (readonly string[])[]): string {
  const [heading, ...body] = rows as [readonly string[], ...(readonly string[])[]];
  const widths = heading.map((_, column) => Math.max(3, ...rows.map((row) => row[column]!.length)));
  const right = heading.map((_, column) => body.length > 0 && body.every((row) => /^[\d.,%±–-]+$/.test(row[column]!)));
  const line = (row: readonly string[], fill = " ") =>
    `| ${
      row.map((cell, i) => right[i] ? cell.padStart(widths[i]!, fill) : cell.padEnd(widths[i]!, fill)).join(" | ")
    } |`;
  return [line(heading), line(right.map((right) => right ? ":" : "-"), "-"), ...body.map((row) => line(row))].join(
    "\n",
  );
}

/**
 * A Markdown table with a row for each item.
 *
 * @param columns for each heading what stands in an item's cell
 */
export function tableOf<T>(items: readonly T[], columns: Readonly<Record<string, (item: T) => string>>): string {
  return markdownTable([
    Object.keys(columns),
    ...items.map((item) => Object.values(columns).map((cell) => cell(item))),
  ]);
}

/** A share as "12.3%". */
export function percent(share: number, decimals = 1): string {
  return `${(100 * share).toFixed(decimals)}%`;
}

/** A time as "12.3 ms", or as "1.23 s" from a second on. */
export function secondsText(seconds: number): string {
  return seconds < 1 ? `${(1000 * seconds).toFixed(1)} ms` : `${seconds.toFixed(2)} s`;
}

/** TFLOP/s with as many decimals as their size needs. */
export function tflopsText(tflops: number): string {
  return tflops.toFixed(tflops < 1 ? 3 : 1);
}

/** Bytes as "1.23 GiB". */
export function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}

/** The mean; an empty text for no numbers. */
export function mean(numbers: readonly number[], decimals: number): string {
  return numbers.length === 0 ? "" : (numbers.reduce((a, b) => a + b) / numbers.length).toFixed(decimals);
}

/**
 * What devices can do at most by their datasheets, in TFLOP/s by the adapter's name: of f32 arithmetic outside matrix units, and of matrix units with 16-bit operands and
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
