import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { formatBytes } from "../../gpu/common/format_bytes.ts";
import { type ByteSource, readPart } from "../files/store.ts";

/** The position of an entry's bytes in the file. */
export interface ZipEntry {
  readonly name: string;
  readonly offset: number;
  readonly length: number;
}

const END = 0x06054b50;
const END_LENGTH = 22;
const CENTRAL = 0x02014b50;
const CENTRAL_LENGTH = 46;
const LOCAL = 0x04034b50;
const LOCAL_LENGTH = 30;
const LONGEST_COMMENT = 0xffff;
/** What stands for a number of more than 32 bits, and where such numbers are: Zip64, in archives of 4 GiB or more. */
const LONG = 0xffffffff, LONG_FIELDS = 1;
const LONG_POINTER = 0x07064b50, LONG_POINTER_LENGTH = 20, LONG_END = 0x06064b50, LONG_END_LENGTH = 56;
/** Limits above any state dict's: the largest models have some 2,000 tensors, each an entry of a hundred bytes. */
const MOST_ENTRIES = 10_000, LARGEST_DIRECTORY = 2 ** 22;

/** Whether a file that starts with these bytes is a zip archive. */
export function isZip(start: Uint8Array): boolean {
  return start.length >= 4 && new DataView(start.buffer, start.byteOffset).getUint32(0, true) === LOCAL;
}

/**
 * Reads the entries of a zip archive, by name. They are stored uncompressed, as `torch.save` writes them. Each must lie
 * completely in the file and must not overlap any other.
 *
 * @throws {TilereelError} naming the file and what is wrong with it.
 */
export async function readZipDirectory(file: ByteSource): Promise<Map<string, ZipEntry>> {
  const { start, length, count } = await findDirectory(file);
  const bytes = await readPart(file, start, length), view = new DataView(bytes.buffer);
  const entries: (ZipEntry & { readonly start: number })[] = [];
  for (let at = 0, i = 0; i < count; i++) {
    if (at + CENTRAL_LENGTH > length || view.getUint32(at, true) !== CENTRAL) {
      throw damaged(file, `its directory ends after ${i} of ${count} entries`);
    }
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((field) => view.getUint16(at + field, true));
    const end = at + CENTRAL_LENGTH + nameLength!;
    if (end > length) throw damaged(file, "the name of an entry reaches past its directory");
    const name = decodeName(file, bytes.subarray(at + CENTRAL_LENGTH, end));
    const [flags, method] = [view.getUint16(at + 8, true), view.getUint16(at + 10, true)];
    if (method !== 0 || (flags & 1) !== 0) {
      throw new TilereelError(
        `${file.path}: its entry ${quoted(name)} is ${flags & 1 ? "encrypted" : "compressed"}, but ` +
          `torch.save stores entries as they are; save the file again with torch.save`,
      );
    }
    const extra = bytes.subarray(end, Math.min(length, end + extraLength!));
    const [size, stored, local] = longFields(
      file,
      extra,
      [24, 20, 42].map((offset) => view.getUint32(at + offset, true)),
    );
    if (stored !== size) throw damaged(file, `its entry ${quoted(name)} has two sizes, ${stored} and ${size}`);
    entries.push({ name, start: local, offset: await dataOffset(file, name, nameLength!, local, start), length: size });
    at = end + extraLength! + commentLength!;
  }
  const byName = new Map(entries.map(({ name, offset, length }) => [name, { name, offset, length }]));
  if (byName.size < entries.length) throw damaged(file, "two of its entries have the same name");
  entries.sort((a, b) => a.start - b.start);
  let end = 0;
  for (const entry of entries) {
    if (entry.start < end) throw damaged(file, `its entry ${quoted(entry.name)} overlaps another`);
    end = entry.offset + entry.length;
    if (end > start) throw damaged(file, `its entry ${quoted(entry.name)} reaches past the data`);
  }
  return byName;
}

/** The position of the directory. It is found from the end of the file, where a comment may follow it. */
async function findDirectory(file: ByteSource): Promise<{ start: number; length: number; count: number }> {
  const tailStart = Math.max(0, file.size - END_LENGTH - LONGEST_COMMENT);
  const tail = await readPart(file, tailStart, file.size), view = new DataView(tail.buffer);
  let at = tail.length - END_LENGTH;
  while (
    at >= 0 && (view.getUint32(at, true) !== END || at + END_LENGTH + view.getUint16(at + 20, true) !== tail.length)
  ) {
    at--;
  }
  if (at < 0) throw damaged(file, "its end is missing");
  let count = view.getUint16(at + 10, true),
    length = view.getUint32(at + 12, true),
    start = view.getUint32(at + 16, true);
  if (count === 0xffff || length === LONG || start === LONG) {
    // A directory of 64 bits lies before this one, and a pointer to it directly before.
    const before = at - LONG_POINTER_LENGTH, isThere = before >= 0 && view.getUint32(before, true) === LONG_POINTER;
    const place = isThere ? Number(view.getBigUint64(before + 8, true)) : NaN;
    if (!(place + LONG_END_LENGTH <= tailStart + before)) throw damaged(file, "the end of its directory is missing");
    const end = new DataView((await readPart(file, place, LONG_END_LENGTH)).buffer);
    if (end.getUint32(0, true) !== LONG_END) throw damaged(file, "the end of its directory is missing");
    [count, length, start] = [32, 40, 48].map((field) => Number(end.getBigUint64(field, true))) as [
      number,
      number,
      number,
    ];
  }
  if (length > LARGEST_DIRECTORY) throw damaged(file, `its directory would be ${formatBytes(length)} long`);
  if (count > MOST_ENTRIES) throw damaged(file, `it would have ${count} entries, which no state dict has`);
  if (start + length > tailStart + at) throw damaged(file, "its directory reaches past its end");
  return { start, length, count };
}

/** The position of an entry's data, which follow its own header. That header repeats the name and may be padded. */
async function dataOffset(
  file: ByteSource,
  name: string,
  nameLength: number,
  local: number,
  limit: number,
): Promise<number> {
  if (local + LOCAL_LENGTH + nameLength > limit) throw damaged(file, `its entry ${quoted(name)} lies outside the data`);
  const header = await readPart(file, local, LOCAL_LENGTH + nameLength), view = new DataView(header.buffer);
  if (view.getUint32(0, true) !== LOCAL) throw damaged(file, `its entry ${quoted(name)} has no header`);
  const ownLength = view.getUint16(26, true), offset = local + LOCAL_LENGTH + ownLength + view.getUint16(28, true);
  if (offset > limit) throw damaged(file, `its entry ${quoted(name)} lies outside the data`);
  if (ownLength !== nameLength || decodeName(file, header.subarray(LOCAL_LENGTH)) !== name) {
    throw damaged(file, `its entry ${quoted(name)} is called something else in its own header`);
  }
  return offset;
}

function decodeName(file: ByteSource, bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw damaged(file, "the name of an entry is not UTF-8");
  }
}

function damaged(file: ByteSource, what: string): TilereelError {
  return new TilereelError(`${file.path} is a damaged zip archive: ${what}; copy or download it again`);
}

/** Numbers of an entry: those that take more than 32 bits are in an extra field, in this order. */
function longFields(
  file: ByteSource,
  extra: Uint8Array,
  [size, stored, local]: readonly number[],
): [size: number, stored: number, local: number] {
  const short = [size!, stored!, local!] as [number, number, number];
  if (!short.includes(LONG)) return short;
  const view = new DataView(extra.buffer, extra.byteOffset, extra.byteLength);
  for (let at = 0; at + 4 <= extra.length;) {
    const length = view.getUint16(at + 2, true);
    if (view.getUint16(at, true) === LONG_FIELDS && at + 4 + length <= extra.length) {
      let from = at + 4;
      return short.map((value) => {
        if (value !== LONG) return value;
        if (from + 8 > at + 4 + length) throw damaged(file, "the size of an entry is missing");
        from += 8;
        return Number(view.getBigUint64(from - 8, true));
      }) as typeof short;
    }
    at += 4 + length;
  }
  throw damaged(file, "the size of an entry is missing");
}
