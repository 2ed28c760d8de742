import { type ByteSource, readPart } from "../../files/store.ts";

/** Where a frame lies in the file, and when it gives way to the next. */
export interface Sample {
  readonly offset: number;
  readonly size: number;
  /** In seconds from the clip's beginning. */
  readonly end: number;
}

/** A video track as an MP4 describes it (ISO/IEC 14496-12). */
export interface Mp4Track {
  /** The type of its sample entry, such as "avc1". */
  readonly type: string;
  readonly width: number;
  readonly height: number;
  /** The transformation with which it is shown, nine numbers. */
  readonly matrix: readonly number[];
  /** Its configuration, if it is H.264. */
  readonly avc?: AvcConfiguration;
  /** Its colours' matrix and range, by the code points of H.273, if the file says them. */
  readonly colours?: { readonly matrix: number; readonly fullRange: boolean };
  readonly samples: readonly Sample[];
}

/** The content of the box `avcC`. */
export interface AvcConfiguration {
  readonly profile: number;
  readonly compatibility: number;
  readonly level: number;
  /** Bytes of the number before each NAL unit. */
  readonly lengthSize: number;
  readonly parameterSets: readonly Uint8Array[];
}

/** What a file's description says. */
export interface Mp4Description {
  readonly video: Mp4Track | undefined;
  readonly isFragmented: boolean;
}

/** Limits above those of hours of video: bytes of the description of all tracks, and frames. */
const LARGEST_MOVIE = 2 ** 25, MOST_SAMPLES = 2 ** 20;
/** Bytes of a sample entry of video before the boxes in it. */
const VISUAL_ENTRY = 78;

/**
 * Reads the description of an MP4's tracks. Every table is checked against the box that it is in and against the
 * file's length before anything is made of it.
 *
 * @returns undefined if the file has none, or ends before it is complete
 * @throws {RangeError} if it makes no sense
 */
export async function readMp4Description(file: ByteSource): Promise<Mp4Description | undefined> {
  for (let at = 0; at + 8 <= file.size;) {
    const header = await readPart(file, at, 16), { type, start, size } = boxAt(header, 0, file.size - at);
    if (at + size > file.size) return undefined;
    if (type === "moov") {
      if (size > LARGEST_MOVIE) throw new RangeError("the description of the tracks is too long");
      const movie = new Box(await readPart(file, at + start, size - start));
      const video = movie.all("trak").find((track) => track.inside("mdia", "hdlr").text(8) === "vide");
      return { video: video && readTrack(video, file.size), isFragmented: movie.all("mvex").length > 0 };
    }
    at += size;
  }
  return undefined;
}

function readTrack(track: Box, fileSize: number): Mp4Track {
  const header = track.inside("tkhd"), clock = track.inside("mdia", "mdhd");
  const table = track.inside("mdia", "minf", "stbl"), [entry] = table.inside("stsd").after(8).boxes();
  if (!entry) throw new RangeError("it has no description of samples");
  const content = entry.content, inner = content.after(VISUAL_ENTRY);
  const matrixAt = header.version() === 1 ? 52 : 40;
  const [avc] = inner.all("avcC"), colour = inner.all("colr").find((box) => box.text(0) === "nclx");
  return {
    type: entry.type,
    width: content.u16(24),
    height: content.u16(26),
    matrix: Array.from({ length: 9 }, (_, i) => header.i32(matrixAt + 4 * i)),
    ...avc && { avc: readAvc(avc) },
    ...colour && { colours: { matrix: colour.u16(8), fullRange: colour.u8(10) >> 7 === 1 } },
    samples: readSamples(table, clock.u32(clock.version() === 1 ? 20 : 12), fileSize),
  };
}

function readAvc(box: Box): AvcConfiguration {
  const parameterSets: Uint8Array[] = [];
  let at = 5;
  // Sequence parameter sets, of which there are up to 31, and picture parameter sets.
  for (const mask of [31, 255]) {
    for (let left = box.u8(at++) & mask; left > 0; left--) {
      const size = box.u16(at);
      parameterSets.push(box.bytesAt(at + 2, size));
      at += 2 + size;
    }
  }
  const [profile, compatibility, level] = [1, 2, 3].map((byte) => box.u8(byte)) as [number, number, number];
  return { profile, compatibility, level, lengthSize: (box.u8(4) & 3) + 1, parameterSets };
}

function readSamples(table: Box, timescale: number, fileSize: number): Sample[] {
  const sizes = table.inside("stsz"), same = sizes.u32(4), count = sizes.u32(8);
  if (timescale === 0 || count > MOST_SAMPLES) throw new RangeError("it has too many samples, or no clock");
  if (same === 0) sizes.checkTable(12, count, 4);
  const sizeOf = (i: number) => same || sizes.u32(12 + 4 * i);
  const durations = expanded(table.inside("stts"), count, false);
  const [shifts] = table.all("ctts"), shift = shifts ? expanded(shifts, count, shifts.version() === 1) : undefined;

  const [chunks] = [...table.all("stco"), ...table.all("co64")], chunkBytes = table.all("stco").length > 0 ? 4 : 8;
  if (!chunks) throw new RangeError("it has no chunks");
  const chunkCount = chunks.u32(4);
  chunks.checkTable(8, chunkCount, chunkBytes);
  const runs = table.inside("stsc"), runCount = runs.u32(4);
  runs.checkTable(8, runCount, 12);

  const samples: Sample[] = [];
  let run = 0, time = 0, begin = 0, total = 0;
  for (let chunk = 0; chunk < chunkCount && samples.length < count; chunk++) {
    while (run + 1 < runCount && runs.u32(8 + 12 * (run + 1)) <= chunk + 1) run++;
    const perChunk = runs.u32(12 + 12 * run);
    let offset = chunkBytes === 4 ? chunks.u32(8 + 4 * chunk) : chunks.u64(8 + 8 * chunk);
    for (let left = perChunk; left > 0 && samples.length < count; left--) {
      const i = samples.length, size = sizeOf(i), shown = time + (shift?.[i] ?? 0);
      if (i === 0) begin = shown;
      samples.push({ offset, size, end: (shown + durations[i]! - begin) / timescale });
      offset += size;
      time += durations[i]!;
      total += size;
    }
  }
  if (samples.length < count) throw new RangeError("its chunks do not hold its samples");
  // Otherwise a small file could name the same bytes a million times.
  if (total > fileSize) throw new RangeError("its samples overlap, or it is cut short");
  return samples;
}

/** The values of a table of runs, one for each sample. */
function expanded(table: Box, count: number, isSigned: boolean): Float64Array {
  const entries = table.u32(4), values = new Float64Array(count);
  table.checkTable(8, entries, 8);
  let done = 0;
  for (let i = 0; i < entries && done < count; i++) {
    const length = Math.min(table.u32(8 + 8 * i), count - done);
    values.fill(isSigned ? table.i32(12 + 8 * i) : table.u32(12 + 8 * i), done, done + length);
    done += length;
  }
  if (done < count) throw new RangeError("a table has values for some samples only");
  return values;
}

/** The content of a box. Reading past its end throws a {@link RangeError}. */
class Box {
  readonly #view: DataView;

  constructor(private readonly bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  version(): number {
    return this.u8(0);
  }

  u8(at: number): number {
    return this.#view.getUint8(at);
  }

  u16(at: number): number {
    return this.#view.getUint16(at);
  }

  u32(at: number): number {
    return this.#view.getUint32(at);
  }

  i32(at: number): number {
    return this.#view.getInt32(at);
  }

  u64(at: number): number {
    return Number(this.#view.getBigUint64(at));
  }

  /** Four characters. */
  text(at: number): string {
    return String.fromCharCode(...this.bytesAt(at, 4));
  }

  bytesAt(at: number, length: number): Uint8Array {
    if (at + length > this.bytes.length) throw new RangeError("a box ends too early");
    return this.bytes.subarray(at, at + length);
  }

  after(bytes: number): Box {
    return new Box(this.bytes.subarray(bytes));
  }

  /** Checks that a table lies in this box. */
  checkTable(at: number, entries: number, entryBytes: number): void {
    if (at + entries * entryBytes > this.bytes.length) throw new RangeError("a table is longer than its box");
  }

  /** The boxes in this one. */
  boxes(): { readonly type: string; readonly content: Box }[] {
    const found: { type: string; content: Box }[] = [];
    for (let at = 0; at + 8 <= this.bytes.length;) {
      const { type, start, size } = boxAt(this.bytes, at, this.bytes.length - at);
      // Some writers end user data with four zero bytes.
      if (at + size > this.bytes.length) throw new RangeError("a box is longer than the one that it is in");
      found.push({ type, content: new Box(this.bytes.subarray(at + start, at + size)) });
      at += size;
    }
    return found;
  }

  all(type: string): Box[] {
    return this.boxes().filter((box) => box.type === type).map(({ content }) => content);
  }

  /** The first box that is reached by these types, each inside of the one before. */
  inside(...path: readonly string[]): Box {
    return path.reduce((box: Box, type) => {
      const [found] = box.all(type);
      if (!found) throw new RangeError(`there is no box ${type}`);
      return found;
    }, this);
  }
}

/**
 * The box that begins at a place.
 *
 * @param left bytes from there to the end of what it is in
 * @returns its size, and where in it its content begins
 */
function boxAt(bytes: Uint8Array, at: number, left: number): { type: string; start: number; size: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), size32 = view.getUint32(at);
  const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
  // 1: the size follows in 64 bits; 0: up to the end.
  const start = size32 === 1 ? 16 : 8, size = size32 === 1 ? Number(view.getBigUint64(at + 8)) : size32 || left;
  if (size < start) throw new RangeError("a box is shorter than its header");
  return { type, start, size };
}
