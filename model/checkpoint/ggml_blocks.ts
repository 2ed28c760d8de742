import type { MatrixFormat } from "../../gpu/formats/format.ts";
import { FORMATS } from "../../gpu/formats/formats.ts";

/** A block of numbers: its bytes, and where it begins. */
interface Block {
  readonly byte: (at: number) => number;
  readonly half: (at: number) => number;
}

const signed = (byte: number) => byte << 24 >> 24;

/** The half of a block of 32 that is in the low or the high four bits of 16 bytes from `at` on. */
const nibble = ({ byte }: Block, at: number, i: number) => byte(at + i % 16) >> (i < 16 ? 0 : 4) & 15;

/** The bit of a number, in the order of the numbers. */
const bit = ({ byte }: Block, at: number, i: number) => byte(at + (i >> 3)) >> (i & 7) & 1;

/** Scale and least of a group of Q4_K and Q5_K. */
function group({ byte, half }: Block, g: number): readonly [scale: number, least: number] {
  const first = byte(4 + g % 4), second = byte(8 + g % 4), third = byte(12 + g % 4);
  const [scale, least] = g < 4
    ? [first & 63, second & 63]
    : [third & 15 | first >> 6 << 4, third >> 4 | second >> 6 << 4];
  return [half(0) * scale, half(2) * least];
}

/** The two bits of a number of Q2_K and Q3_K: four layers of 32 numbers are in the same 32 bytes. */
const twoBits = ({ byte }: Block, at: number, i: number) => byte(at + 32 * (i >> 7) + i % 32) >> 2 * (i >> 5 & 3) & 3;

/** The i-th number of a block, by the format's name. */
const NUMBERS: Readonly<Record<string, (block: Block, i: number) => number>> = {
  q4_0: (b, i) => b.half(0) * (nibble(b, 2, i) - 8),
  q4_1: (b, i) => b.half(0) * nibble(b, 4, i) + b.half(2),
  q5_0: (b, i) => b.half(0) * ((nibble(b, 6, i) | bit(b, 2, i) << 4) - 16),
  q5_1: (b, i) => b.half(0) * (nibble(b, 8, i) | bit(b, 4, i) << 4) + b.half(2),
  q8_0: (b, i) => b.half(0) * signed(b.byte(2 + i)),
  q2_k: (b, i) => {
    const both = b.byte(i >> 4);
    return b.half(80) * (both & 15) * twoBits(b, 16, i) - b.half(82) * (both >> 4);
  },
  q3_k: (b, i) => {
    const s = i >> 4, low = b.byte(96 + s % 8) >> 4 * (s >> 3) & 15, high = b.byte(104 + s % 4) >> 2 * (s >> 2) & 3;
    const third = b.byte(i % 32) >> (i >> 5) & 1;
    return b.half(108) * ((low | high << 4) - 32) * ((twoBits(b, 32, i) | third << 2) - 4);
  },
  q4_k: (b, i) => {
    const [scale, least] = group(b, i >> 5);
    return scale * (b.byte(16 + 32 * (i >> 6) + i % 32) >> (i & 32 ? 4 : 0) & 15) - least;
  },
  q5_k: (b, i) => {
    const [scale, least] = group(b, i >> 5), fifth = b.byte(16 + i % 32) >> (i >> 5) & 1;
    return scale * (b.byte(48 + 32 * (i >> 6) + i % 32) >> (i & 32 ? 4 : 0) & 15 | fifth << 4) - least;
  },
  q6_k: (b, i) => {
    const layer = i >> 5 & 3, half = i >> 7;
    const low = b.byte(64 * half + 32 * (layer & 1) + i % 32) >> 4 * (layer >> 1) & 15;
    const high = b.byte(128 + 32 * half + i % 32) >> 2 * layer & 3;
    return b.half(208) * signed(b.byte(192 + (i >> 4))) * ((low | high << 4) - 32);
  },
};

/** A decoder of whole blocks to f32, on the CPU. `gpu/formats/ggml.ts` describes the formats. */
export function ggmlDecoder(format: MatrixFormat): (bytes: Uint8Array) => Float32Array<ArrayBuffer> {
  const { blockElements, blockBytes } = format, number = NUMBERS[format.name]!;
  return (bytes) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const values = new Float32Array(bytes.length / blockBytes * blockElements);
    for (let at = 0, first = 0; at < bytes.length; at += blockBytes, first += blockElements) {
      const block: Block = {
        byte: (offset) => bytes[at + offset]!,
        half: (offset) => view.getFloat16(at + offset, true),
      };
      for (let i = 0; i < blockElements; i++) values[first + i] = number(block, i);
    }
    return values;
  };
}

/** The formats of ggml, by their names in GGUF files. */
export const GGML_DTYPES = {
  Q4_0: FORMATS.q4_0,
  Q4_1: FORMATS.q4_1,
  Q5_0: FORMATS.q5_0,
  Q5_1: FORMATS.q5_1,
  Q8_0: FORMATS.q8_0,
  Q2_K: FORMATS.q2_k,
  Q3_K: FORMATS.q3_k,
  Q4_K: FORMATS.q4_k,
  Q5_K: FORMATS.q5_k,
  Q6_K: FORMATS.q6_k,
};
