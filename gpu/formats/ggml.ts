/**
 * The block formats of ggml, which GGUF files hold, as `ggml-common.h` lays them out. A block of 32 or 256 numbers has
 * integers of few bits with a scale in f16, and some an offset. Those of 256 ("K") have scales of 16 or 32 numbers, too.
 *
 * Blocks need not start at whole words, but all start at even bytes.
 *
 * @module
 */
import { blockFormat } from "./block_format.ts";
import type { MatrixFormat } from "./format.ts";

/** WGSL that reads from `buffer` at byte offsets, which are expressions. */
const bytesOf = (buffer: string) => ({
  /** Declares the four bytes from an even offset on, as a word. */
  word: (name: string, at: string) =>
    `  let ${name}_at = ${at};
  var ${name} = ${buffer}[${name}_at / 4u];
  if (${name}_at % 4u != 0u) { ${name} = (${name} >> 16u) | (${buffer}[${name}_at / 4u + 1u] << 16u); }
`,
  /** A byte. */
  byte: (at: string) => `((${buffer}[(${at}) / 4u] >> ((${at}) % 4u * 8u)) & 0xffu)`,
  /** Declares an f16 at an even offset as an f32. WGSL's own conversion may make numbers below 2^-14 zero, as some scales are. */
  half: (name: string, at: string) =>
    `  let ${name}_bits = ${buffer}[(${at}) / 4u] >> ((${at}) % 4u * 8u);
  let ${name}_size = select(
    bitcast<f32>(((${name}_bits & 0x7fffu) << 13u) + ${112 * 2 ** 23}u),
    f32(${name}_bits & 0x3ffu) * ${2 ** -24},
    (${name}_bits & 0x7c00u) == 0u,
  );
  let ${name} = select(${name}_size, -${name}_size, (${name}_bits & 0x8000u) != 0u);
`,
});
type Bytes = ReturnType<typeof bytesOf>;

/** The four bytes of a word, each shifted, as integers of so many bits. */
const codes = (word: string, bits: number, shift = "0u") =>
  `((vec4u(${word}) >> (vec4u(0u, 8u, 16u, 24u) + ${shift})) & vec4u(${2 ** bits - 1}u))`;

/** A byte as a signed integer. */
const signed = (byte: string) => `(bitcast<i32>(${byte} << 24u) >> 24u)`;

/** @param four the rest of the function: `f` counts fours in the block, which starts at the byte `at` */
function ggml(name: string, elements: number, bytes: number, four: (read: Bytes) => string): MatrixFormat {
  return blockFormat({
    ...{ name, blockElements: elements, blockBytes: bytes, element: "u32" },
    four: (buffer) =>
      `  let at = i / ${elements / 4}u * ${bytes}u;
  let f = i % ${elements / 4}u;
${four(bytesOf(buffer))}`,
  });
}

/** The halves of a block of 32 are in the low and the high four bits of the same 16 bytes. */
const NIBBLE = "f / 4u * 4u";
/** The fifth bits of such a block are those of a word, in the order of its numbers. */
const FIFTH = "(((vec4u(fifths) >> (vec4u(0u, 1u, 2u, 3u) + 4u * f)) & vec4u(1u)) << vec4u(4u))";

const q4_0: MatrixFormat = ggml(
  "q4_0",
  32,
  18,
  ({ half, word }) =>
    `${half("scale", "at")}${word("low", "at + 2u + f % 4u * 4u")}
  return scale * (vec4f(${codes("low", 4, NIBBLE)}) - 8.0);`,
);

const q4_1: MatrixFormat = ggml(
  "q4_1",
  32,
  20,
  ({ half, word }) =>
    `${half("scale", "at")}${half("least", "at + 2u")}${word("low", "at + 4u + f % 4u * 4u")}
  return scale * vec4f(${codes("low", 4, NIBBLE)}) + least;`,
);

const q5_0: MatrixFormat = ggml(
  "q5_0",
  32,
  22,
  ({ half, word }) =>
    `${half("scale", "at")}${word("fifths", "at + 2u")}${word("low", "at + 6u + f % 4u * 4u")}
  return scale * (vec4f(${codes("low", 4, NIBBLE)} | ${FIFTH}) - 16.0);`,
);

const q5_1: MatrixFormat = ggml(
  "q5_1",
  32,
  24,
  ({ half, word }) =>
    `${half("scale", "at")}${half("least", "at + 2u")}${word("fifths", "at + 4u")}${
      word("low", "at + 8u + f % 4u * 4u")
    }
  return scale * vec4f(${codes("low", 4, NIBBLE)} | ${FIFTH}) + least;`,
);

const q8_0: MatrixFormat = ggml(
  "q8_0",
  32,
  34,
  ({ half, word }) =>
    `${half("scale", "at")}${word("whole", "at + 2u + 4u * f")}
  return scale * vec4f(bitcast<vec4i>(vec4u(whole) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u));`,
);

/** Blocks of 128 of Q2_K, Q3_K: four layers of 32 numbers, each in two bits of the same 32 bytes. */
const TWO_BITS = `  let layer = f % 32u / 8u;
  let part = 4u * (f % 8u);
  let scale_of = f / 4u;
`;

const q2_k: MatrixFormat = ggml(
  "q2_k",
  256,
  84,
  ({ half, word, byte }) =>
    `${TWO_BITS}${half("scale", "at + 80u")}${half("least", "at + 82u")}${
      word("low", "at + 16u + f / 32u * 32u + part")
    }
  let both = ${byte("at + scale_of")};
  return scale * f32(both & 15u) * vec4f(${codes("low", 2, "2u * layer")}) - least * f32(both >> 4u);`,
);

const q3_k: MatrixFormat = ggml(
  "q3_k",
  256,
  110,
  ({ half, word, byte }) =>
    `${TWO_BITS}${half("scale", "at + 108u")}${word("high", "at + part")}${
      word("low", "at + 32u + f / 32u * 32u + part")
    }
  let four_bits = (${byte("at + 96u + scale_of % 8u")} >> (scale_of / 8u * 4u)) & 15u;
  let two_bits = (${byte("at + 104u + scale_of % 4u")} >> (scale_of / 4u * 2u)) & 3u;
  let third = ${codes("high", 1, "(f / 32u * 4u + layer)")} << vec4u(2u);
  return scale * (f32(four_bits | (two_bits << 4u)) - 32.0) * (vec4f(${codes("low", 2, "2u * layer")} | third) - 4.0);`,
);

/** Q4_K and Q5_K: eight groups of 32. Scale and least of each have six bits; the last four groups' lie in three bytes. */
const GROUPS = ({ half, byte }: Bytes) =>
  `  let group = f / 8u;
${half("scale", "at")}${half("least", "at + 2u")}
  let first = ${byte("at + 4u + group % 4u")};
  let second = ${byte("at + 8u + group % 4u")};
  let third = ${byte("at + 12u + group % 4u")};
  let late = group >= 4u;
  let d = scale * f32(select(first & 63u, (third & 15u) | ((first >> 6u) << 4u), late));
  let m = least * f32(select(second & 63u, (third >> 4u) | ((second >> 6u) << 4u), late));
`;

const q4_k: MatrixFormat = ggml(
  "q4_k",
  256,
  144,
  (read) =>
    `${GROUPS(read)}${read.word("low", "at + 16u + group / 2u * 32u + f % 8u * 4u")}
  return d * vec4f(${codes("low", 4, "group % 2u * 4u")}) - m;`,
);

const q5_k: MatrixFormat = ggml(
  "q5_k",
  256,
  176,
  (read) =>
    `${GROUPS(read)}${read.word("high", "at + 16u + f % 8u * 4u")}${
      read.word("low", "at + 48u + group / 2u * 32u + f % 8u * 4u")
    }
  return d * vec4f(${codes("low", 4, "group % 2u * 4u")} | (${codes("high", 1, "group")} << vec4u(4u))) - m;`,
);

/** Two halves of four layers of 32 numbers. */
const q6_k: MatrixFormat = ggml("q6_k", 256, 210, ({ half, word, byte }) =>
  `  let layer = f % 32u / 8u;
  let part = 4u * (f % 8u);
${half("scale", "at + 208u")}${word("low", "at + f / 32u * 64u + layer % 2u * 32u + part")}${
    word("high", "at + 128u + f / 32u * 32u + part")
  }
  let d = scale * f32(${signed(byte("at + 192u + f / 4u"))});
  return d * (vec4f(${codes("low", 4, "layer / 2u * 4u")} | (${
    codes("high", 2, "2u * layer")
  } << vec4u(4u))) - 32.0);`);

/** By name. */
export const GGML_FORMATS = { q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, q4_k, q5_k, q6_k };
