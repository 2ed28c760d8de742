/**
 * Floats of 8 bits, four in a word. They are PyTorch's float8_e4m3fn, which has no infinities, and float8_e5m2.
 *
 * @module
 */
import { blockFormat } from "./block_format.ts";
import type { MatrixFormat } from "./format.ts";

/**
 * @param mantissa the bits of the mantissa
 * @param largest the code of the largest finite number; those past it are NaN, or infinite where the mantissa is 0
 */
function float8(name: string, mantissa: number, largest: number): MatrixFormat {
  const bias = 2 ** (6 - mantissa) - 1;
  return blockFormat({
    ...{ name, blockElements: 1, blockBytes: 1, element: "u32" },
    // An f32 has the same bits with another bias, except for subnormal numbers.
    four: (buffer) =>
      `  let codes = vec4u(${buffer}[i]) >> vec4u(0u, 8u, 16u, 24u);
  let magnitudes = codes & vec4u(0x7fu);
  let normal = (magnitudes << vec4u(${23 - mantissa}u)) + vec4u(${(127 - bias) * 2 ** 23}u);
  let small = bitcast<vec4u>(vec4f(magnitudes) * ${2 ** (1 - bias - mantissa)});
  let finite = select(normal, small, magnitudes < vec4u(${2 ** mantissa}u));
  let bits = select(finite, normal | vec4u(0x7f800000u), magnitudes > vec4u(${largest}u));
  return bitcast<vec4f>(bits | ((codes & vec4u(0x80u)) << vec4u(24u)));`,
  });
}

export const f8_e4m3: MatrixFormat = float8("f8_e4m3", 3, 0x7e);
export const f8_e5m2: MatrixFormat = float8("f8_e5m2", 2, 0x7b);
