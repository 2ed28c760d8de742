/** Rows as aligned columns. Columns from `numbersFrom` on, counted from 0, are aligned to the right. */
export function textTable(rows: readonly (readonly string[])[], numbersFrom = Infinity): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const pad = (cell: string, i: number) => i < numbersFrom ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!);
  return rows.map((row) => `  ${row.map(pad).join("  ")}`.trimEnd()).join("\n");
}
