import { clampedBuffer } from "../../clamps.ts";
import { type KernelSource, read, u32s, unroll, write } from "../../kernel.ts";
import { chosenHead } from "../chosen_heads.ts";
import { memo } from "../memo.ts";
import { countedHalves, FOUR_HALVES } from "../../formats/halves.ts";

/** The number of threads of a workgroup along x. Each packs eight numbers of a row. */
export const PACK_THREADS = 256;

const EIGHT = `
fn packed(a: vec4f, b: vec4f) -> vec4u { return vec4u(four_halves(a), four_halves(b)); }`;

/** WGSL: converts eight numbers to f16. Numbers that f16 cannot hold are clamped. */
export const PACKED = FOUR_HALVES + EIGHT;

/**
 * Packs keys and values to f16, for kernels that hold operands in f16. Only the heads that are computed are packed, in
 * the order of tokens or of a plan's slots. Each key is packed once and then read many times.
 */
export const packKeys = memo(({ headDim, plan }: { headDim: number; plan: boolean }): KernelSource => ({
  name: `attention_pack_${headDim}${plan ? "_plan" : ""}`,
  buffers: {
    ...{ k: read("vec4f"), v: read("vec4f"), head_ids: read("u32") },
    ...plan && { order: read("u32") },
    /** [batch, rows, chosen heads · head dim] */
    ...{ packed_k: write("vec4u"), packed_v: write("vec4u") },
    ...clampedBuffer,
  },
  // order_stride is the offset from one head's order to the next; 0 where all share one.
  params: u32s("tokens", "rows", "heads", "has_heads", "order_stride"),
  workgroupSize: [PACK_THREADS, 1, 1],
  declarations: countedHalves("keys and values of attention") + EIGHT,
  body: `  let row = gid.x / ${headDim / 8}u;
  if (row >= p.rows) { return; }
  let eight = gid.x % ${headDim / 8}u;
${chosenHead("h", "wid.y")}
  let token = wid.z * p.tokens + ${plan ? "order[(wid.z * p.heads + h) * p.order_stride + row]" : "row"};
  let source = (token * p.heads + h) * ${headDim / 4}u + 2u * eight;
  let at = ((wid.z * p.rows + row) * nwg.y + wid.y) * ${headDim / 8}u + eight;
${unroll(2, (i) => `  packed_${"kv"[i]}[at] = packed(${"kv"[i]}[source], ${"kv"[i]}[source + 1u]);`)}`,
}));
