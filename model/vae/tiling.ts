/** A tile's place along one axis. */
export interface Span {
  readonly start: number;
  readonly length: number;
}

/** Tiles of `size`, `stride` apart, over `total` pixels; those at the end are cut off. */
export function tileSpans(total: number, size: number, stride: number): Span[] {
  const spans: Span[] = [];
  for (let start = 0; start < total; start += stride) spans.push({ start, length: Math.min(size, total - start) });
  return spans;
}

/** How far a pixel of a tile lies in the blend, and whether in the one with the tile before or the one after. */
interface Place {
  /** 0 at the seam's start, where only the tile before counts, to 1. */
  readonly share: number;
  /** The pixel belongs to the next tile's part of the picture. */
  readonly beyond: boolean;
}

/** The places of a tile's pixels along one axis. Tiles `stride` apart blend over at most `overlap` pixels. */
function places(spans: readonly Span[], index: number, stride: number, overlap: number): Place[] {
  const blend = (i: number) => Math.min(overlap, spans[i]!.length);
  return Array.from({ length: spans[index]!.length }, (_, x) => {
    if (x < stride || index === spans.length - 1) {
      return { share: index > 0 && x < blend(index) ? x / blend(index) : 1, beyond: false };
    }
    return { share: Math.min((x - stride) / blend(index + 1), 1), beyond: true };
  });
}

/** What the frames of a tile count, where tiles overlap in time. Lengths are as in {@link blendWeights}. */
export function timeWeights(spans: readonly Span[], index: number, stride: number, overlap: number): Float32Array {
  return Float32Array.from(places(spans, index, stride, overlap), ({ share, beyond }) => beyond ? 1 - share : share);
}

/**
 * The weights with which tiles are added up: those that diffusers' blending, first with the tile above, then with the
 * one to the left, comes to. What the pixels of the tile in row `row` and column `column` count.
 *
 * At a corner four tiles meet. With u and v the shares along width and height, the tile that owns the pixel counts u·v,
 * the one to its left (1 − u)·v, the one above u²·(1 − v) and the one above to the left (1 − u²)·(1 − v): the tile
 * above comes blended with its own left one already, and the left tile blended with the one above it.
 *
 * @returns [height, width] of the tile
 */
export function blendWeights(
  rows: readonly Span[],
  columns: readonly Span[],
  row: number,
  column: number,
  stride: number,
  overlap: number,
): Float32Array {
  const down = places(rows, row, stride, overlap), across = places(columns, column, stride, overlap);
  const weights = new Float32Array(down.length * across.length);
  let at = 0;
  for (const { share: v, beyond: below } of down) {
    for (const { share: u, beyond: right } of across) {
      const own = below ? u * u : u;
      weights[at++] = (right ? 1 - own : own) * (below ? 1 - v : v);
    }
  }
  return weights;
}

/** How a picture is cut into overlapping tiles, which fit into memory one by one. Lengths are in latent pixels. */
export interface TilePlan {
  readonly rows: readonly Span[];
  readonly columns: readonly Span[];
  readonly stride: number;
  readonly overlap: number;
}

/** A picture as a single tile. */
export function wholePicture(height: number, width: number): TilePlan {
  const whole = (length: number) => [{ start: 0, length }];
  return { rows: whole(height), columns: whole(width), stride: Math.max(height, width), overlap: 0 };
}

/** A picture in tiles of `size`, `stride` apart. */
export function tilePlan(height: number, width: number, size: number, stride: number): TilePlan {
  if (stride < size / 2 || stride > size) throw new RangeError(`tiles of ${size} cannot be ${stride} apart`);
  return {
    rows: tileSpans(height, size, stride),
    columns: tileSpans(width, size, stride),
    stride,
    overlap: size - stride,
  };
}

/** Pixels of a plan's largest tile. */
export function tilePixels({ rows, columns }: TilePlan): number {
  return rows[0]!.length * columns[0]!.length;
}

/** Whether there is more than one tile. */
export function isTiled({ rows, columns }: TilePlan): boolean {
  return rows.length * columns.length > 1;
}

/** The same places on an axis that is `scale` times as fine. */
export function finer(spans: readonly Span[], scale: number): Span[] {
  return spans.map(({ start, length }) => ({ start: start * scale, length: length * scale }));
}

/** {@link blendWeights} of a plan's tile on pixels that are `scale` times as fine as the plan's. */
export function planWeights(plan: TilePlan, row: number, column: number, scale: number): Float32Array {
  const { rows, columns, stride, overlap } = plan;
  return blendWeights(finer(rows, scale), finer(columns, scale), row, column, stride * scale, overlap * scale);
}
