import type { ColourTags } from "./colours.ts";
import type { FrameRate } from "./frame_rate.ts";

/** The properties that a stream declares. */
export interface StreamDescription {
  readonly colours: ColourTags;
  readonly rate: FrameRate;
  /** Bits a second, on average. */
  readonly bitrate: number;
}

const BASELINE = 66;
/** Also decoders of the Main profile can read what has no slice groups, arbitrary order or redundant slices. */
const CONSTRAINED = 0xc0;
/** Code points: square pixels, no particular video format, chroma samples amid the four pixels they stand for. */
const SQUARE = 1, UNSPECIFIED_FORMAT = 5, CHROMA_CENTRE = 1;
/** The most that motion vectors' lengths may be said to take, in bits. */
const LONGEST_VECTOR = 16;

/** Levels (table A-1): `level_idc`, macroblocks a second and a frame, kilobits a second. */
const LEVELS = [
  [10, 1485, 99, 64],
  [11, 3000, 396, 192],
  [12, 6000, 396, 384],
  [13, 11880, 396, 768],
  [20, 11880, 396, 2000],
  [21, 19800, 792, 4000],
  [22, 20250, 1620, 4000],
  [30, 40500, 1620, 10000],
  [31, 108000, 3600, 14000],
  [32, 216000, 5120, 20000],
  [40, 245760, 8192, 20000],
  [41, 245760, 8192, 50000],
  [42, 522240, 8704, 50000],
  [50, 589824, 22080, 135000],
  [51, 983040, 36864, 240000],
  [52, 2073600, 36864, 240000],
] as const;

/**
 * Writes the sequence parameter set of an H.264 stream (ITU-T H.264, 7.3.2.1.1), a NAL unit of the Baseline profile
 * without usability information, anew with what the encoder leaves out: colours, frame rate, order of frames, and a
 * level that the clip keeps to.
 */
export function describeStream(sps: Uint8Array, description: StreamDescription): Uint8Array<ArrayBuffer> {
  const { colours, rate } = description;
  const source = new BitReader(unescaped(sps));
  const [header, profile] = [source.bits(8), source.bits(8)];
  if (profile !== BASELINE) throw new Error(`the encoder wrote H.264 profile ${profile}`);
  source.bits(16);
  // What decoding depends on stays as it is.
  const begin = source.at;
  source.exponential();
  source.exponential();
  const orderType = source.exponential();
  if (orderType !== 2) throw new Error(`the encoder wrote pictures ordered by type ${orderType}`);
  const references = source.exponential();
  source.bits(1);
  const columns = source.exponential() + 1, rows = source.exponential() + 1;
  if (source.bits(1) === 0) throw new Error("the encoder wrote fields");
  source.bits(1);
  if (source.bits(1) === 1) { for (let side = 0; side < 4; side++) source.exponential(); }
  const end = source.at;
  if (source.bits(1) === 1) throw new Error("the encoder describes usability by itself");

  const out = new BitWriter();
  out.bits([header, 8], [BASELINE, 8], [CONSTRAINED, 8], [levelOf(columns, rows, description), 8]);
  source.at = begin;
  while (source.at < end) out.bits([source.bits(1), 1]);
  out.bits([1, 1], [1, 1], [SQUARE, 8]);
  // Nothing of overscan; the signal: limited range, colours as described.
  out.bits([0, 1], [1, 1], [UNSPECIFIED_FORMAT, 3], [0, 1], [1, 1]);
  out.bits([colours.primaries, 8], [colours.transfer, 8], [colours.matrix, 8], [1, 1]);
  out.exponential(CHROMA_CENTRE, CHROMA_CENTRE);
  // Time, counted in fields; all frames are as long.
  out.bits([1, 1], [rate.frameTicks, 32], [rate.timescale * 2, 32], [1, 1]);
  // No reference decoder, of neither kind, and no structure of pictures.
  out.bits([0, 3]);
  // Vectors may point outside; sizes have no bound; frames are shown in the order in which they come.
  out.bits([1, 1], [1, 1]);
  out.exponential(0, 0, LONGEST_VECTOR, LONGEST_VECTOR, 0, references);
  // The end: a one, and zeros up to the byte's.
  out.bits([1, 1]);
  return escaped(out.bytes());
}

/** The lowest level that a stream keeps to. */
function levelOf(columns: number, rows: number, { rate, bitrate }: StreamDescription): number {
  const size = columns * rows, speed = size * rate.timescale / rate.frameTicks;
  const [level] =
    LEVELS.find(([, largestSpeed, largestSize, kilobits]) =>
      speed <= largestSpeed && size <= largestSize && Math.max(columns, rows) ** 2 <= 8 * largestSize &&
      bitrate <= kilobits * 1000
    ) ?? LEVELS.at(-1)!;
  return level;
}

class BitReader {
  at = 0;
  constructor(private readonly bytes: Uint8Array) {}

  bits(count: number): number {
    let value = 0;
    for (; count > 0; count--, this.at++) value = value * 2 + (this.bytes[this.at >> 3]! >> 7 - (this.at & 7) & 1);
    return value;
  }

  /** A number by Exponential-Golomb coding. */
  exponential(): number {
    let zeros = 0;
    while (this.bits(1) === 0 && zeros < 32) zeros++;
    return 2 ** zeros - 1 + this.bits(zeros);
  }
}

class BitWriter {
  readonly #bits: number[] = [];

  /** Writes numbers, each in as many bits. */
  bits(...numbers: readonly (readonly [value: number, count: number])[]): void {
    for (const [value, count] of numbers) {
      for (let i = count - 1; i >= 0; i--) this.#bits.push(Math.floor(value / 2 ** i) % 2);
    }
  }

  /** Writes numbers by Exponential-Golomb coding. */
  exponential(...values: readonly number[]): void {
    for (const value of values) {
      const length = Math.floor(Math.log2(value + 1));
      this.bits([0, length], [value + 1, length + 1]);
    }
  }

  bytes(): Uint8Array {
    const bytes = new Uint8Array(Math.ceil(this.#bits.length / 8));
    for (const [i, bit] of this.#bits.entries()) bytes[i >> 3]! |= bit << 7 - (i & 7);
    return bytes;
  }
}

/** Takes out the threes that keep three zeros, or two before a small number, from looking like a start code. */
function unescaped(nalUnit: Uint8Array): Uint8Array {
  return nalUnit.filter((byte, i) => !(i >= 2 && byte === 3 && nalUnit[i - 1] === 0 && nalUnit[i - 2] === 0));
}

/** Puts them in. */
function escaped(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const out: number[] = [];
  let zeros = 0;
  for (const byte of bytes) {
    if (zeros === 2 && byte <= 3) {
      out.push(3);
      zeros = 0;
    }
    out.push(byte);
    zeros = byte === 0 ? zeros + 1 : 0;
  }
  return Uint8Array.from(out);
}
