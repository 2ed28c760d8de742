import { assert, assertEquals } from "@std/assert";
import type { Format } from "../../../gpu/formats/formats.ts";
import { castInto } from "../../../gpu/ops/cast.ts";
import { linear } from "../../../gpu/ops/linear.ts";
import { type Dtype, toFloat32 } from "../../../model/checkpoint/dtype.ts";
import { testVariants } from "../../gpu.ts";

/** All codes as the OCP's specification of 8-bit floats describes them. */
const CODES = Uint8Array.from({ length: 256 }, (_, code) => code);
const sign = (code: number) => code < 0x80 ? 1 : -1;
const e4m3 = Float32Array.from(CODES, (code) => {
  const exponent = code >> 3 & 15, mantissa = code & 7;
  if (exponent === 15 && mantissa === 7) return NaN;
  return sign(code) * (exponent === 0 ? mantissa / 8 * 2 ** -6 : (1 + mantissa / 8) * 2 ** (exponent - 7));
});
const e5m2 = Float32Array.from(CODES, (code) => {
  const exponent = code >> 2 & 31, mantissa = code & 3;
  if (exponent === 31) return mantissa === 0 ? sign(code) * Infinity : NaN;
  return sign(code) * (exponent === 0 ? mantissa / 4 * 2 ** -14 : (1 + mantissa / 4) * 2 ** (exponent - 15));
});
const FLOATS8: readonly (readonly [Dtype, Format, Float32Array])[] = [
  ["F8_E4M3", "f8_e4m3", e4m3],
  ["F8_E5M2", "f8_e5m2", e5m2],
];

Deno.test("all 8-bit floats are decoded on the CPU, also from an odd offset", () => {
  // Anchors of the table itself: 1, the largest and the smallest numbers.
  assertEquals([e4m3[0x38], e4m3[0x7e], e4m3[0x01], e4m3[0xfe]], [1, 448, 2 ** -9, -448]);
  assertEquals([e5m2[0x3c], e5m2[0x7b], e5m2[0x01], e5m2[0x7c]], [1, 57344, 2 ** -16, Infinity]);
  const odd = new Uint8Array(257);
  odd.set(CODES, 1);
  for (const [dtype, , values] of FLOATS8) assertEquals([...toFloat32(odd.subarray(1), dtype)], [...values]);
});

testVariants("all 8-bit floats are decoded on the GPU, bit for bit, and multiplied by", async ({ gpu, bound }) => {
  for (const [, format, values] of FLOATS8) {
    const x = gpu.upload(CODES, [256], format), y = gpu.tensor([256]);
    castInto(gpu, x, y, gpu.clampCounter("float8"));
    const decoded = await gpu.read(y);
    // A NaN may have any bits.
    const bits = (numbers: Float32Array) =>
      Array.from(new Uint32Array(numbers.buffer), (bits, i) => Number.isNaN(numbers[i]) ? NaN : bits);
    assertEquals(bits(decoded), bits(values), `${format}`);
    // Products read fours and eights. Each row has one number that is not zero.
    const codes = CODES.filter((code) => Number.isFinite(values[code]!)), count = codes.length / 4 * 4;
    const w = new Uint8Array(count * 16), column = (row: number) => row * 5 % 16;
    for (let row = 0; row < count; row++) w[row * 16 + column(row)] = codes[row]!;
    const ones = gpu.upload(new Float32Array(16).fill(1), [1, 16]);
    const products = await gpu.read(linear(gpu, ones, gpu.upload(w, [count, 16], format)));
    for (const [row, code] of codes.entries()) {
      assert(Math.abs(products[row]! - values[code]!) <= bound * Math.abs(values[code]!), `${format} ${code}`);
    }
    for (const tensor of [x, y, ones]) gpu.release(tensor);
  }
});
