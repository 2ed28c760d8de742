/**
 * Makes zip archives for tests, in order or out of it.
 *
 * @module
 */

/** One entry; what is not given is what it should be. */
export interface ZipEntry {
  readonly name: string;
  readonly data: Uint8Array;
  /** What the directory says of it. */
  readonly method?: number;
  readonly flags?: number;
  readonly stored?: number;
  readonly size?: number;
  readonly start?: number;
  /** What its own header calls it. */
  readonly localName?: string;
}

/** An archive of entries stored as they are. */
export function makeZip(entries: readonly ZipEntry[], count = entries.length): Uint8Array<ArrayBuffer> {
  const encode = (text: string) => new TextEncoder().encode(text);
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let at = 0;
  for (const { name, data, method = 0, flags = 0, stored, size, start, localName = name } of entries) {
    const local = fields(30, { 0: 0x04034b50, 18: data.length, 22: data.length }, { 26: encode(localName).length });
    parts.push(local, encode(localName), data);
    directory.push(
      fields(46, { 0: 0x02014b50, 20: stored ?? data.length, 24: size ?? data.length, 42: start ?? at }, {
        8: flags,
        10: method,
        28: encode(name).length,
      }),
      encode(name),
    );
    at += 30 + encode(localName).length + data.length;
  }
  const directoryLength = directory.reduce((sum, part) => sum + part.length, 0);
  const end = fields(22, { 0: 0x06054b50, 12: directoryLength, 16: at }, { 8: count, 10: count });
  return concat([...parts, ...directory, end]);
}

/** All bytes, one behind the other. */
export function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function fields(length: number, u32: Record<number, number>, u16: Record<number, number>): Uint8Array {
  const view = new DataView(new ArrayBuffer(length));
  for (const [at, value] of Object.entries(u32)) view.setUint32(Number(at), value, true);
  for (const [at, value] of Object.entries(u16)) view.setUint16(Number(at), value, true);
  return new Uint8Array(view.buffer);
}
