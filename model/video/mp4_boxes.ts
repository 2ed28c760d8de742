/** The content of a box of an MP4 file: bytes, or text in Latin-1. */
export type BoxPart = Uint8Array | readonly number[] | string;

/** A box, of which MP4 files are made (ISO/IEC 14496-12). */
export function box(type: string, ...parts: readonly BoxPart[]): Uint8Array<ArrayBuffer> {
  const bytes = concatenate([new Uint8Array(4), latin1(type), ...parts.map(bytesOf)]);
  new DataView(bytes.buffer).setUint32(0, bytes.length);
  return bytes;
}

/** A box of version 0 that begins with flags. */
export function fullBox(type: string, flags: number, ...parts: readonly BoxPart[]): Uint8Array<ArrayBuffer> {
  return box(type, u32(flags), ...parts);
}

/** Numbers of 32 bits. */
export function u32(...numbers: readonly number[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(numbers.length * 4);
  const view = new DataView(bytes.buffer);
  for (const [i, number] of numbers.entries()) view.setUint32(i * 4, number);
  return bytes;
}

/** Numbers of 16 bits. */
export function u16(...numbers: readonly number[]): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(numbers.flatMap((number) => [number >> 8, number & 255]));
}

/**
 * What is in the first box that is reached by these types, each inside of the one before.
 *
 * @param skip bytes before the boxes in those types that have any
 */
export function findBox(
  data: Uint8Array,
  path: readonly string[],
  skip: Readonly<Record<string, number>> = {},
): Uint8Array {
  const [wanted, ...inner] = path;
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  for (let at = 0; at + 8 <= data.length;) {
    const size = view.getUint32(at);
    const type = String.fromCharCode(...data.subarray(at + 4, at + 8));
    const content = data.subarray(at + 8, at + size);
    if (size < 8) break;
    if (type === wanted) return inner.length > 0 ? findBox(content.subarray(skip[type] ?? 0), inner, skip) : content;
    at += size;
  }
  throw new Error(`there is no box ${wanted}`);
}

/** All parts as one. */
export function concatenate(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

function bytesOf(part: BoxPart): Uint8Array {
  return typeof part === "string" ? latin1(part) : part instanceof Uint8Array ? part : Uint8Array.from(part);
}

function latin1(text: string): Uint8Array {
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}
