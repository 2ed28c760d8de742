/** How one pixel along an axis is made: from `weights.length` pixels, the first of which is `from`. */
interface Taps {
  readonly from: number;
  readonly weights: Float64Array;
}

/**
 * Scales and crops RGB samples [fromHeight, fromWidth, 3] to [height, width, 3], round the centre and without changing
 * the picture's proportions. Enlarging is bilinear; making smaller averages every pixel that is covered, so that fine
 * patterns do not flicker. A picture of that size already is given back as it is.
 */
export function cover(
  rgb: Uint8Array,
  fromWidth: number,
  fromHeight: number,
  width: number,
  height: number,
): Uint8Array {
  if (fromWidth === width && fromHeight === height) return rgb;
  const scale = Math.max(width / fromWidth, height / fromHeight);
  const columns = axis(fromWidth, width, scale), rows = axis(fromHeight, height, scale);
  const firstRow = rows[0]!.from, lastRow = rows.at(-1)!.from + rows.at(-1)!.weights.length;
  // Across first, only in the rows that are wanted; then down.
  const narrow = new Float32Array((lastRow - firstRow) * width * 3);
  for (let y = firstRow, at = 0; y < lastRow; y++) {
    for (const { from, weights } of columns) {
      let r = 0, g = 0, b = 0;
      for (let k = 0, pixel = (y * fromWidth + from) * 3; k < weights.length; k++, pixel += 3) {
        const weight = weights[k]!;
        r += weight * rgb[pixel]!;
        g += weight * rgb[pixel + 1]!;
        b += weight * rgb[pixel + 2]!;
      }
      narrow[at++] = r;
      narrow[at++] = g;
      narrow[at++] = b;
    }
  }
  const out = new Uint8Array(width * height * 3);
  const line = new Float64Array(width * 3);
  for (const [y, { from, weights }] of rows.entries()) {
    line.fill(0.5);
    for (let k = 0; k < weights.length; k++) {
      const weight = weights[k]!, start = (from + k - firstRow) * line.length;
      for (let i = 0; i < line.length; i++) line[i]! += weight * narrow[start + i]!;
    }
    out.set(line, y * line.length);
  }
  return out;
}

/** A triangle round each new pixel's centre, as wide as two pixels of the coarser grid. */
function axis(from: number, to: number, scale: number): Taps[] {
  // Without scaling, whole pixels are cut off: half of one would blur the picture.
  const start = scale === 1 ? Math.floor((from - to) / 2) : (from - to / scale) / 2;
  const radius = Math.max(1, 1 / scale);
  return Array.from({ length: to }, (_, i) => {
    const centre = start + (i + 0.5) / scale;
    const first = Math.max(0, Math.ceil(centre - radius - 0.5));
    const last = Math.min(from - 1, Math.floor(centre + radius - 0.5));
    const weights = Float64Array.from(
      { length: last - first + 1 },
      (_, k) => Math.max(0, 1 - Math.abs(first + k + 0.5 - centre) / radius),
    );
    const sum = weights.reduce((a, b) => a + b, 0);
    return { from: first, weights: weights.map((weight) => weight / sum) };
  });
}
