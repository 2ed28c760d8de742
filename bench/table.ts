/**
 * Tables for the terminal and for docs/performance.md.
 *
 * @module
 */

/** Rows as a Markdown table with aligned columns; the first row is the heading. Numbers stand right. */
export function markdownTable(rows: readonly (readonly string[])[]): string {
  const [heading, ...body] = rows as [readonly string[], ...(readonly string[])[]];
  const widths = heading.map((_, column) => Math.max(3, ...rows.map((row) => row[column]!.length)));
  const right = heading.map((_, column) => body.length > 0 && body.every((row) => /^[\d.,%±–-]+$/.test(row[column]!)));
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, i) => right[i] ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)).join(" | ")} |`;
  const rule = `| ${
    widths.map((width, i) => right[i] ? `${"-".repeat(width - 1)}:` : "-".repeat(width)).join(" | ")
  } |`;
  return [line(heading), rule, ...body.map(line)].join("\n");
}
