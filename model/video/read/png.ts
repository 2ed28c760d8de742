import type { Picture } from "../../picture/picture.ts";
import { checkPictureSize } from "../../picture/limits.ts";
import { crc32 } from "../crc32.ts";
import { concatenate } from "../mp4_boxes.ts";

/** The description of a PNG's pixels: the chunk IHDR. */
interface Header {
  readonly width: number;
  readonly height: number;
  /** Bits of a sample. */
  readonly depth: number;
  readonly kind: Kind;
  readonly isInterlaced: boolean;
}

/** Which samples a pixel has. */
interface Kind {
  readonly channels: number;
  readonly depths: readonly number[];
  readonly isIndexed?: boolean;
  readonly hasAlpha?: boolean;
}

const KINDS: Readonly<Record<number, Kind>> = {
  0: { channels: 1, depths: [1, 2, 4, 8, 16] },
  2: { channels: 3, depths: [8, 16] },
  3: { channels: 1, depths: [1, 2, 4, 8], isIndexed: true },
  4: { channels: 2, depths: [8, 16], hasAlpha: true },
  6: { channels: 4, depths: [8, 16], hasAlpha: true },
};

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
/** Where a pass of an interlaced picture begins, and its steps: x, y, across, down. */
const ADAM7 = [
  ...[[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]],
] as const satisfies readonly (readonly number[])[];
const WHOLE = [[0, 0, 1, 1]] as const;

/**
 * Decodes a PNG (ISO/IEC 15948) row by row, so that it never takes more memory than the picture. Parts that are
 * transparent are black; 16 bits a sample are rounded to 8.
 *
 * @throws {TilereelError} if it has too many pixels
 * @throws {RangeError} if it is damaged
 */
export async function decodePng(path: string, bytes: Uint8Array): Promise<Picture> {
  const { header, data, palette, alphas } = readChunks(bytes), { width, height, depth, kind } = header;
  checkPictureSize(path, width, height);
  const rgb = new Uint8Array(width * height * 3);
  const bits = depth * kind.channels, pixelBytes = Math.max(1, bits >> 3);
  const paint = painter(header, palette, alphas);
  await using rows = inflate(data);
  for (const [left, top, across, down] of header.isInterlaced ? ADAM7 : WHOLE) {
    const columns = Math.ceil((width - left) / across), lines = Math.ceil((height - top) / down);
    if (columns <= 0 || lines <= 0) continue;
    let before = new Uint8Array(Math.ceil(columns * bits / 8));
    for (let line = 0; line < lines; line++) {
      const [filter] = await rows.take(1), row = await rows.take(before.length);
      unfilter(filter!, row, before, pixelBytes);
      const start = ((top + line * down) * width + left) * 3;
      for (let i = 0; i < columns; i++) paint(row, i, rgb, start + 3 * across * i);
      before = row;
    }
  }
  await rows.end();
  return { width, height, rgb };
}

/** The content of the chunks that make the picture. */
function readChunks(bytes: Uint8Array) {
  if (SIGNATURE.some((byte, i) => bytes[i] !== byte)) throw new RangeError("its beginning is not that of a PNG");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), data: Uint8Array<ArrayBuffer>[] = [];
  let header: Header | undefined, palette = new Uint8Array(0), alphas = new Uint8Array(0);
  for (let at = SIGNATURE.length;;) {
    if (at + 12 > bytes.length) throw new RangeError("it is cut short");
    const size = view.getUint32(at), type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (at + 12 + size > bytes.length) throw new RangeError("it is cut short");
    if (["IHDR", "PLTE", "tRNS", "IDAT", "IEND"].includes(type)) {
      if (view.getUint32(at + 8 + size) !== crc32(bytes.subarray(at + 4, at + 8 + size))) {
        throw new RangeError(`the checksum of its chunk ${type} does not match`);
      }
    }
    const content = bytes.slice(at + 8, at + 8 + size);
    if (type === "IHDR") header ??= readHeader(content);
    if (type === "PLTE") palette = content;
    if (type === "tRNS") alphas = content;
    if (type === "IDAT") data.push(content);
    if (type === "IEND") break;
    at += 12 + size;
  }
  if (!header) throw new RangeError("it has no header");
  return { header, palette, alphas, data };
}

function readHeader(content: Uint8Array): Header {
  if (content.length !== 13) throw new RangeError("its header is of another length");
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  const [depth, type, compression, filter, interlace] = content.subarray(8) as unknown as readonly number[];
  const kind = KINDS[type!];
  if (!kind?.depths.includes(depth!) || compression !== 0 || filter !== 0 || interlace! > 1) {
    throw new RangeError("its header makes no sense");
  }
  return { width: view.getUint32(0), height: view.getUint32(4), depth: depth!, kind, isInterlaced: interlace === 1 };
}

/** Undoes a row's filter, which predicted each byte from those to the left and above. */
function unfilter(filter: number, row: Uint8Array, before: Uint8Array, pixelBytes: number): void {
  if (filter > 4) throw new RangeError("a row has an unknown filter");
  if (filter === 0) return;
  for (let i = 0; i < row.length; i++) {
    const left = i >= pixelBytes ? row[i - pixelBytes]! : 0, above = before[i]!;
    const corner = i >= pixelBytes ? before[i - pixelBytes]! : 0;
    row[i]! += filter === 1
      ? left
      : filter === 2
      ? above
      : filter === 3
      ? left + above >> 1
      : paeth(left, above, corner);
  }
}

/** Of three neighbours the one that is nearest to left + above − corner. */
function paeth(left: number, above: number, corner: number): number {
  const toLeft = Math.abs(above - corner), toAbove = Math.abs(left - corner);
  const toCorner = Math.abs(left + above - 2 * corner);
  return toLeft <= toAbove && toLeft <= toCorner ? left : toAbove <= toCorner ? above : corner;
}

/** Writes a row's pixel as RGB. */
type Paint = (row: Uint8Array, pixel: number, rgb: Uint8Array, to: number) => void;

function painter({ depth, kind }: Header, palette: Uint8Array, alphas: Uint8Array): Paint {
  const { channels, isIndexed, hasAlpha } = kind, colours = channels > 2 ? 3 : 1;
  const packed = (row: Uint8Array, i: number) => row[i * depth >> 3]! >> 8 - depth - (i * depth & 7) & (1 << depth) - 1;
  if (isIndexed) {
    return (row, i, rgb, to) => {
      const index = packed(row, i);
      if (3 * index + 3 > palette.length) throw new RangeError("it has no colour of a number that it uses");
      const alpha = (alphas[index] ?? 255) / 255;
      for (let c = 0; c < 3; c++) rgb[to + c] = Math.round(palette[3 * index + c]! * alpha);
    };
  }
  // The one colour that stands for none.
  const key = !hasAlpha && alphas.length >= 2 * colours
    ? Array.from({ length: colours }, (_, c) => alphas[2 * c]! << 8 | alphas[2 * c + 1]!)
    : undefined;
  const sample = (row: Uint8Array, i: number, c: number) => {
    const at = i * channels + c;
    return depth === 16 ? row[2 * at]! << 8 | row[2 * at + 1]! : depth === 8 ? row[at]! : packed(row, at);
  };
  const scale = 255 / (2 ** depth - 1);
  if (depth === 8 && channels === 3 && !key) {
    return (row, i, rgb, to) => {
      rgb[to] = row[3 * i]!;
      rgb[to + 1] = row[3 * i + 1]!;
      rgb[to + 2] = row[3 * i + 2]!;
    };
  }
  return (row, i, rgb, to) => {
    const alpha = hasAlpha ? Math.round(sample(row, i, channels - 1) * scale) / 255 : 1;
    if (key?.every((value, c) => value === sample(row, i, c))) return;
    for (let c = 0; c < 3; c++) {
      rgb[to + c] = Math.round(Math.round(sample(row, i, colours === 3 ? c : 0) * scale) * alpha);
    }
  };
}

/** The inflated bytes of parts, taken in pieces. */
function inflate(parts: readonly Uint8Array<ArrayBuffer>[]) {
  const reader = new Blob([...parts]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  let held: Uint8Array = new Uint8Array(0);
  const next = async () => {
    try {
      return (await reader.read()).value;
    } catch {
      throw new RangeError("its data cannot be decompressed");
    }
  };
  return {
    /** Always a copy. */
    async take(count: number): Promise<Uint8Array<ArrayBuffer>> {
      const pieces = [held];
      let length = held.length;
      while (length < count) {
        const piece = await next();
        if (!piece) throw new RangeError("it has too few rows");
        pieces.push(piece);
        length += piece.length;
      }
      const all = pieces.length > 1 ? concatenate(pieces) : held;
      held = all.subarray(count);
      return all.slice(0, count);
    },
    /** Reads up to the checksum. What follows the last row, if anything, is ignored. */
    async end(): Promise<void> {
      if (held.length === 0) await next();
    },
    async [Symbol.asyncDispose](): Promise<void> {
      await reader.cancel().catch(() => {});
    },
  };
}
