import { clampedBuffer } from "../../clamps.ts";
import { type KernelSource, read, u32s, unroll, write } from "../../kernel.ts";
import { chosenHead } from "../chosen_heads.ts";
import { memo } from "../memo.ts";
import { countedHalves, FOUR_HALVES } from "../../formats/halves.ts";
import { I8_MAX, TO_I8 } from "../../formats/i8.ts";
import { ORDER_PARAMS, orderOf } from "./loop.ts";

/** The number of threads of a workgroup along x. Each packs eight numbers of a row. */
export const PACK_THREADS = 256;

const EIGHT = `
fn packed(a: vec4f, b: vec4f) -> vec4u { return vec4u(four_halves(a), four_halves(b)); }`;

/** WGSL: converts eight numbers to f16. Numbers that f16 cannot hold are clamped. */
export const PACKED = FOUR_HALVES + EIGHT;

/** How keys or values are packed to f16. */
interface HalfPacking {
  /** Whether the mean of all tokens is subtracted first. */
  readonly shifted: boolean;
  /** Whether they are in f16 already. */
  readonly halves: boolean;
}

/** A kernel that packs operands. Only the heads that are computed are packed, head by head. */
interface Packing {
  readonly headDim: number;
  /** Rows are in the order of a plan's slots, not of tokens. */
  readonly plan: boolean;
}

/** WGSL that defines where a row begins: `source` in vec4s of the operand, `packed_row` in rows of the output. */
const place = ({ headDim, plan }: Packing, row: string, room: string) =>
  `${chosenHead("h", "wid.y")}
  let token = wid.z * p.tokens + ${plan ? `order[${orderOf("wid.z")} + ${row}]` : row};
  let source = (token * p.heads + h) * ${headDim / 4}u;
  let packed_row = (wid.z * nwg.y + wid.y) * ${room} + ${row};`;

const PARAMS = { ...u32s("tokens", "rows", "heads", "has_heads"), ...ORDER_PARAMS };

/** WGSL: a thread's i-th vec4 of sums or of largest magnitudes by channel, given the first vec4 of its channels. */
const ofChannels = ({ headDim }: Packing, array: string, first: string, i: number) =>
  `${array}[(wid.z * p.heads + h) * ${headDim / 4}u + ${first} + ${i}u]`;

/** WGSL that subtracts the mean of all tokens, given their sums. */
const lessMean = (packing: Packing, first: string, i: number) =>
  ` - ${ofChannels(packing, "sums", first, i)} / f32(p.tokens)`;

/**
 * Packs keys, values or both to f16, for kernels that hold operands in f16. Each is packed once and then read many times.
 *
 * @param operands at most one is shifted
 */
export const packHalves = memo(
  ({ operands, ...packing }: Packing & { readonly operands: readonly HalfPacking[] }): KernelSource => {
    const { headDim, plan } = packing, all = operands.every(({ halves }) => halves);
    const four = (x: string, i: number, shifted: boolean) =>
      `${x}[source + 2u * eight + ${i}u]${shifted ? lessMean(packing, "2u * eight", i) : ""}`;
    const eight = ({ shifted, halves }: HalfPacking, x: string) =>
      halves ? `${x}[source / 2u + eight]` : `packed(${four(x, 0, shifted)}, ${four(x, 1, shifted)})`;
    return {
      name: `attention_pack_${headDim}${plan ? "_plan" : ""}${
        operands.map(({ shifted, halves }) => `_${shifted ? "shifted" : halves ? "halves" : "f32"}`).join("")
      }`,
      buffers: {
        ...Object.fromEntries(operands.map(({ halves }, i) => [`x${i}`, read(halves ? "vec4u" : "vec4f")])),
        head_ids: read("u32"),
        ...plan && { order: read("u32") },
        /** [batch, heads · head dim]: the sums of all tokens */
        ...operands.some(({ shifted }) => shifted) && { sums: read("vec4f") },
        /** [batch, chosen heads, rows, head dim] */
        ...Object.fromEntries(operands.map((_, i) => [`y${i}`, write("vec4u")])),
        ...!all && clampedBuffer,
      },
      params: PARAMS,
      workgroupSize: [PACK_THREADS, 1, 1],
      declarations: all ? "" : countedHalves("keys and values of attention") + EIGHT,
      body: `  let row = gid.x / ${headDim / 8}u;
  if (row >= p.rows) { return; }
  let eight = gid.x % ${headDim / 8}u;
${place(packing, "row", "p.rows")}
  let at = packed_row * ${headDim / 8}u + eight;
${operands.map((operand, i) => `  y${i}[at] = ${eight(operand, `x${i}`)};`).join("\n")}`,
    };
  },
);

/** What an i8 operand is divided by before it is rounded: the largest magnitude of each row, or of each channel. */
export type ScaledBy = "row" | "channel";

/**
 * Rounds an operand to i8, in the same order: its numbers become integers times a scale of the row, or of the channel.
 * Sixteen numbers of a row are one thread's, so up to eight threads share a row.
 *
 * @param shifted whether the mean of all tokens is subtracted first
 */
export const packInt8 = memo(
  ({ by, shifted, ...packing }: Packing & { readonly by: ScaledBy; readonly shifted: boolean }): KernelSource => {
    const { headDim, plan } = packing, threads = headDim / 16;
    const byRow = `  let high = max(max(abs(x0), abs(x1)), max(abs(x2), abs(x3)));
  var top = max(max(high.x, high.y), max(high.z, high.w));
${unroll(Math.log2(threads), (bit) => `  top = max(top, subgroupShuffleXor(top, ${1 << bit}u));`)}
  let inverse = i8_inverse(top);`;
    const rounded = (i: number) => {
      if (by === "row") return `four_i8(x${i} * inverse)`;
      const top = ofChannels(packing, "tops", "4u * part", i);
      return `four_i8(x${i} * vec4f(${[0, 1, 2, 3].map((c) => `i8_inverse(${top}[${c}])`).join(", ")}))`;
    };
    return {
      name: `attention_pack_int8_by_${by}_${headDim}${plan ? "_plan" : ""}${shifted ? "_shifted" : ""}`,
      subgroups: true,
      buffers: {
        ...{ x: read("vec4f"), head_ids: read("u32") },
        ...plan && { order: read("u32") },
        /** [batch, heads · head dim]: the sums of all tokens, and their largest magnitudes */
        ...{ ...shifted && { sums: read("vec4f") }, ...by === "channel" && { tops: read("vec4f") } },
        /** [batch, chosen heads, room, head dim] and [batch, chosen heads, room] */
        ...{ y: write("vec4u"), ...by === "row" && { scales: write("f32") } },
      },
      // `room` is the number of rows of the outputs, `factor` one for the scales.
      params: { ...PARAMS, room: "u32", factor: "f32" },
      workgroupSize: [PACK_THREADS, 1, 1],
      declarations: TO_I8,
      body: `  let row = gid.x / ${threads}u;
  let part = gid.x % ${threads}u;
  let inside = min(row, p.rows - 1u);
${place(packing, "inside", "p.room")}
${unroll(4, (i) => `  let x${i} = x[source + 4u * part + ${i}u]${shifted ? lessMean(packing, "4u * part", i) : ""};`)}
${by === "row" ? byRow : ""}
  if (row >= p.rows) { return; }
  y[packed_row * ${threads}u + part] = vec4u(${[0, 1, 2, 3].map(rounded).join(", ")});
${by === "row" ? `  if (part == 0u) { scales[packed_row] = top * (p.factor / ${I8_MAX}.0); }` : ""}`,
    };
  },
);
