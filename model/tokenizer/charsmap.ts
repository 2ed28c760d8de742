/** What a character, or a few that make one, become; undefined where they stay. */
type Transform = (text: string) => string | undefined;

/** Graphemes of fewer bytes are looked up whole. */
const WHOLE_BELOW = 6;
const GRAPHEMES = new Intl.Segmenter("en", { granularity: "grapheme" });

/**
 * A function that normalizes as the `Precompiled` normalizer of Hugging Face's tokenizers does, by SentencePiece's
 * table of what characters become before a text is cut into pieces: mostly NFKC with white space made plain. The table
 * holds a trie as a double array (darts-clone), and a pool of strings that end in 0. A short grapheme becomes what its
 * *shortest* beginning in the table becomes; else each character is looked up by itself.
 *
 * @param table bytes of a `precompiled_charsmap`
 * @throws {RangeError} if it is damaged
 */
export function charsmapNormalizer(table: Uint8Array): (text: string) => string {
  const transform = openCharsmap(table), known = new Map<string, string>();
  const normalized = (grapheme: string) => {
    if (!known.has(grapheme)) known.set(grapheme, ofGrapheme(grapheme, transform));
    return known.get(grapheme)!;
  };
  return (text) => Array.from(GRAPHEMES.segment(text), ({ segment }) => normalized(segment)).join("");
}

function ofGrapheme(grapheme: string, transform: Transform): string {
  if (ENCODER.encode(grapheme).length < WHOLE_BELOW) {
    const whole = transform(grapheme);
    if (whole !== undefined) return whole;
  }
  return [...grapheme].map((char) => transform(char) ?? char).join("");
}

const ENCODER = new TextEncoder(), DECODER = new TextDecoder();

function openCharsmap(table: Uint8Array): Transform {
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  const trieBytes = table.length >= 4 ? view.getUint32(0, true) : NaN;
  if (!(trieBytes >= 4 && trieBytes % 4 === 0 && 4 + trieBytes <= table.length)) {
    throw new RangeError("the table of characters, precompiled_charsmap, is damaged");
  }
  const units = Uint32Array.from({ length: trieBytes / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
  const pool = table.subarray(4 + trieBytes);
  return (text) => {
    const start = shortestMatch(units, ENCODER.encode(text));
    if (start === undefined) return undefined;
    const end = pool.indexOf(0, start);
    return DECODER.decode(pool.subarray(start, end < 0 ? pool.length : end));
  };
}

/** The value of the shortest key that `bytes` begin with. Bits of a unit as darts-clone has them. */
function shortestMatch(units: Uint32Array, bytes: Uint8Array): number | undefined {
  const offset = (unit: number) => (unit >>> 10) << ((unit & 0x200) >>> 6);
  let at = offset(units[0]!);
  for (const byte of bytes) {
    if (byte === 0) return undefined;
    at ^= byte;
    const unit = units[at];
    if (unit === undefined || (unit & 0x800000ff) >>> 0 !== byte) return undefined;
    at ^= offset(unit);
    if (unit & 0x100) return units[at]! & 0x7fffffff;
  }
  return undefined;
}
