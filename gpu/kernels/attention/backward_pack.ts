/**
 * Operands of attention's backward pass by matrix units: f16, head by head, in the order of tokens or of a plan's slots.
 *
 * @module
 */
import { type KernelSource, read, u32s, write } from "../../kernel.ts";
import { FOUR_HALVES } from "../../formats/halves.ts";
import { chosenHead, HEAD_PARAMS } from "../chosen_heads.ts";
import { ORDER_PARAMS, orderOf } from "./loop.ts";
import { memo } from "../memo.ts";
import { perElement } from "../per_element.ts";

/** Which rows are packed. */
export interface BackwardPacking {
  readonly headDim: number;
  /** Rows are in the order of a plan's slots, not of tokens. */
  readonly plan: boolean;
}

const PARAMS = { ...u32s("tokens", "rows"), ...ORDER_PARAMS, ...HEAD_PARAMS };

/** WGSL that defines `h`, the head, and `token`, the row of the operand, given `packed`, the row of the output. */
const place = (plan: boolean) =>
  `  let row = packed % p.rows;
  let batch = packed / p.rows / p.chosen;
${chosenHead("h", "packed / p.rows % p.chosen")}
  let token = batch * p.tokens + ${plan ? `order[${orderOf("batch")} + row]` : "row"};`;

/** Packs an operand, times `factor`. A thread converts eight numbers. */
export const packBackward = memo(({ headDim, plan }: BackwardPacking): KernelSource =>
  perElement({
    name: `attention_backward_pack_${headDim}${plan ? "_plan" : ""}`,
    buffers: {
      ...{ x: read("vec4f"), head_ids: read("u32") },
      ...plan && { order: read("u32") },
      /** [batch, chosen heads, rows, head dim] */
      y: write("vec4u"),
    },
    params: { ...PARAMS, factor: "f32" },
    declarations: FOUR_HALVES,
    body: `  let packed = i / ${headDim / 8}u;
${place(plan)}
  let at = (token * p.heads + h) * ${headDim / 4}u + i % ${headDim / 8}u * 2u;
  y[i] = vec4u(four_halves(x[at] * p.factor), four_halves(x[at + 1u] * p.factor));`,
  })
);

/** Packs what a kernel needs of each query: its log-sum-exp in powers of two, and Σ dy∘y. */
export const packQueryFigures = memo((plan: boolean): KernelSource =>
  perElement({
    name: `attention_backward_figures${plan ? "_plan" : ""}`,
    buffers: {
      ...{ lse: read("f32"), dot_y: read("f32"), head_ids: read("u32") },
      ...plan && { order: read("u32") },
      /** [batch, chosen heads, rows, 2] */
      y: write("vec2f"),
    },
    params: PARAMS,
    body: `  let packed = i;
${place(plan)}
  let at = token * p.heads + h;
  y[i] = vec2f(lse[at] * ${Math.LOG2E}, dot_y[at]);`,
  })
);
