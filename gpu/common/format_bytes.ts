/** Formats bytes with three digits, in units of 1024: "1.50 GiB"; below 1 KiB exactly: "1 byte", "512 bytes". */
export function formatBytes(bytes: number): string {
  if (bytes === 1) return "1 byte";
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (bytes >= 1024 && i < units.length - 1) [bytes, i] = [bytes / 1024, i + 1];
  // `toPrecision(3)` writes 1000 with an exponent.
  return `${i === 0 ? bytes : bytes < 999.5 ? bytes.toPrecision(3) : Math.round(bytes)} ${units[i]}`;
}
