/**
 * Puts right what the MP4 writer leaves open, in the file's boxes (ISO/IEC 14496-12): the times of creation, so that
 * the same clip gives the same bytes, and the colours, so that no player has to guess them.
 *
 * @module
 */

/** Boxes that hold boxes, and how many bytes come before the first of them. */
const CONTAINERS: Readonly<Record<string, number>> = { moov: 0, trak: 0, mdia: 0, minf: 0, stbl: 0, stsd: 8, avc1: 78 };
/** Boxes that begin with version, flags, and the times of creation and of the last change. */
const TIMED = new Set(["mvhd", "tkhd", "mdhd"]);

/**
 * `colr` of kind `nclx`: primaries BT.709 (which are sRGB's), transfer sRGB, matrix BT.601, limited range: how
 * rgbToYuv420 makes the samples.
 */
// deno-fmt-ignore
const COLOUR_BOX = new Uint8Array([0, 0, 0, 19, ...ascii("colrnclx"), 0, 1, 0, 13, 0, 6, 0]);

/** The same MP4 with its times set to zero and its colours named. The `moov` box must come after `mdat`. */
export function finishMp4(mp4: Uint8Array, userData: Uint8Array): Uint8Array<ArrayBuffer> {
  const parts = boxes(mp4);
  const media = parts.findIndex((box) => box.type === "mdat");
  const movie = parts.findIndex((box) => box.type === "moov");
  // The movie box grows: were it before the samples, the offsets in it that point at them would be wrong.
  if (media === -1 || movie < media) throw new Error("the MP4 writer put moov before mdat");
  return concatenate(parts.map((box) => rewrite(box, userData)));
}

/** A box of these parts, of which texts are Latin-1. */
export function box(
  type: string,
  ...parts: readonly (Uint8Array | readonly number[] | string)[]
): Uint8Array<ArrayBuffer> {
  const bytes = concatenate([
    new Uint8Array(4),
    ...[type, ...parts].map((part) => typeof part === "string" ? ascii(part) : part).map((part) =>
      Uint8Array.from(part)
    ),
  ]);
  new DataView(bytes.buffer).setUint32(0, bytes.length);
  return bytes;
}

/** A box of version 0 that begins with flags. */
export function fullBox(type: string, flags: number, ...parts: Parameters<typeof box>[1][]): Uint8Array<ArrayBuffer> {
  return box(type, [0, flags >> 16, flags >> 8 & 255, flags & 255], ...parts);
}

interface Box {
  readonly type: string;
  /** With its header. */
  readonly bytes: Uint8Array;
  /** Bytes of its header. */
  readonly header: number;
}

function boxes(data: Uint8Array): Box[] {
  const found: Box[] = [];
  for (let at = 0; at < data.length;) {
    const view = new DataView(data.buffer, data.byteOffset + at);
    const size32 = view.getUint32(0);
    // 1: the size follows in 64 bits; 0: up to the end.
    const size = size32 === 1 ? Number(view.getBigUint64(8)) : size32 || data.length - at;
    const type = String.fromCharCode(...data.subarray(at + 4, at + 8));
    found.push({ type, bytes: data.subarray(at, at + size), header: size32 === 1 ? 16 : 8 });
    at += size;
  }
  return found;
}

function rewrite(box: Box, userData: Uint8Array): Uint8Array {
  if (TIMED.has(box.type)) {
    const bytes = box.bytes.slice();
    const long = bytes[box.header] === 1;
    bytes.fill(0, box.header + 4, box.header + (long ? 20 : 12));
    return bytes;
  }
  const skip = CONTAINERS[box.type];
  if (skip === undefined) return box.bytes;
  const inner = box.header + skip;
  const children = boxes(box.bytes.subarray(inner)).map((child) => rewrite(child, userData));
  if (box.type === "moov") children.push(userData);
  if (box.type === "avc1") children.push(COLOUR_BOX);
  const out = concatenate([box.bytes.subarray(0, inner), ...children]);
  new DataView(out.buffer).setUint32(0, out.length);
  return out;
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

function ascii(text: string): number[] {
  return [...text].map((c) => c.charCodeAt(0));
}
