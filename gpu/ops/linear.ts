import type { Gpu } from "../gpu.ts";
import { Tensor } from "../tensor.ts";
import { activation as activate } from "./activation.ts";
import { writesHalves } from "../kernels/gemm/variants.ts";
import { combine } from "./combine.ts";
import { packHalves } from "./pack_halves.ts";
import { gated } from "./gated.ts";
import {
  type GemmOptions,
  isBindable,
  planGemm,
  planTogether,
  recordGemm,
  recordTogether,
  sharedForms,
  type WeightOfMany,
} from "./gemm.ts";
import { transposeHalves } from "./transpose_halves.ts";
import { type Operand, packedAway, PackedOperand, plainOperand } from "./packed_operand.ts";

/** Options of a linear layer. */
export interface LinearOptions extends GemmOptions {
  /**
   * [rows, out], f32: where to write the result, instead of to a new tensor; may be a part of one. While a tape is open,
   * not with an activation.
   */
  readonly into?: Tensor;
}

/**
 * A linear layer: y = residual + gate · act(scale · x·wᵀ + bias). If it is transposed, the scale is along x's columns.
 *
 * @param x [..., in], f32; `in` a multiple of 4
 * @param w [out, in], any format of matrices; `in` a multiple of its blocks
 * @returns [..., out], f32
 */
export function linear(gpu: Gpu, x: Operand, w: Operand, options: LinearOptions = {}): Tensor {
  const { scale, transposed, ...rest } = options;
  if (scale && transposed) {
    if (x instanceof PackedOperand) {
      throw new Error("linear: a transposed product with a scale takes no packed operand");
    }
    const scaled = () => gated(gpu, x, { tensor: scale.reshape([1, 1, scale.size]), index: 0 });
    return gpu.scope(() => linear(gpu, scaled(), w, { ...rest, transposed }));
  }
  if (gpu.tape) return taped(gpu, x, w, options);
  const turns = transposed && options.precision === "f16" && gpu.f16;
  if (turns && w.shape[0]! % 8 === 0 && isBindable(gpu, w)) {
    return gpu.scope(() => linear(gpu, x, transposeHalves(gpu, plainOperand(gpu, w)), rest));
  }
  const plan = planGemm(gpu, x, w, options);
  const y = options.into ?? gpu.tensor([...x.shape.slice(0, -1), plan.problem.n]);
  recordGemm(gpu, plan, x, w, options, y);
  return y;
}

/**
 * As {@link linear}, for an output that is used only as the input of another layer. The result has the form that the
 * other layer reads fastest: packed, or a plain tensor.
 *
 * @param next the weight of the other layer
 */
export function linearInto(gpu: Gpu, x: Operand, w: Operand, next: Operand, options: LinearOptions = {}): Operand {
  const plan = planGemm(gpu, x, w, options), { m, n } = plan.problem, form = sharedForms(gpu, m, next).x;
  const shape = [...x.shape.slice(0, -1), n];
  if (form?.numbers === "f16" && plan.variant?.by === "panels") {
    const y = PackedOperand.empty(gpu, shape, form);
    recordGemm(gpu, plan, x, w, options, y);
    return y;
  }
  if (form?.numbers !== "i8") return linear(gpu, x, w, options);
  // A row must be known before it can be quantised. Until then, it takes half the memory.
  const y = gpu.tensor(shape, writesHalves(plan.variant) ? "bf16" : "f32");
  recordGemm(gpu, plan, x, w, options, y);
  return packedAway(gpu, y, form);
}

/**
 * As {@link linear}, for values of attention, which `takesHalves`: where kernels write them, the result is in f16. Numbers
 * that f16 cannot hold are clamped.
 *
 * @param into [rows, out], f16: where to write the result, whatever kernels write
 */
export function linearHalves(gpu: Gpu, x: Operand, w: Operand, options: GemmOptions = {}, into?: Tensor): Tensor {
  const plan = planGemm(gpu, x, w, options);
  if (!writesHalves(plan.variant)) {
    return into ? gpu.scope(() => packHalves(gpu, linear(gpu, x, w, options), { into })) : linear(gpu, x, w, options);
  }
  const y = into ?? gpu.tensor([...x.shape.slice(0, -1), plan.problem.n], "f16");
  recordGemm(gpu, plan, x, w, options, y);
  return y;
}

/** Whether kernels write the product of such operands in f16. */
export const isInHalves = (gpu: Gpu, x: Operand, w: Operand): boolean => writesHalves(planGemm(gpu, x, w, {}).variant);

/** One of several layers of the same input. */
export interface SharingLayer extends WeightOfMany {
  /** As {@link linearHalves}. */
  readonly halves?: boolean | undefined;
}

/**
 * Several layers of one input. Where kernels can, and if the weights are in the form that products read fastest, they are
 * one dispatch: together, their tiles fill a GPU better.
 *
 * @param held whether the weights are held in that form, or will be. Otherwise, each is packed for its own product
 * @returns [..., out] of each layer, f32; f16 where it says so and kernels write that
 */
export function linearTogether(gpu: Gpu, x: Operand, layers: readonly SharingLayer[], held: boolean): Tensor[] {
  const plan = held && !gpu.tape && planTogether(gpu, x, layers);
  if (!plan) {
    return layers.map(({ w, halves, ...options }) => (halves ? linearHalves : linear)(gpu, x, w, options));
  }
  const outputs = layers.map(({ w, halves }) =>
    gpu.tensor([...x.shape.slice(0, -1), w.shape[0]!], halves ? "f16" : "f32")
  );
  recordTogether(gpu, plan, x, layers, outputs);
  return outputs;
}

/**
 * The same under a tape. The backward pass of an activation needs its input, so the activation is computed separately.
 */
function taped(gpu: Gpu, x: Operand, w: Operand, options: LinearOptions): Tensor {
  if (!(x instanceof Tensor)) throw new Error("linear: a tape takes no packed input");
  const { activation = "none", scale, residual, gate, transposed = false, ...rest } = options;
  if (activation !== "none") {
    if (options.into) {
      throw new Error("linear: with an activation, no part of a tensor is written while a tape is open");
    }
    const y = activate(gpu, linear(gpu, x, w, { ...rest, scale, transposed }), activation);
    if (gate) return gated(gpu, y, gate, residual);
    return residual ? combine(gpu, [[1, y], [1, residual]]) : y;
  }
  const back = { scale, transposed: !transposed, precision: options.precision ?? gpu.tape!.products };
  const y = gpu.untaped(() => linear(gpu, x, w, options));
  // Weight, gate and scale count as constants. They are named here so that a tape that watches them reports an error.
  const weight = w instanceof PackedOperand ? w.tensor : w;
  gpu.tape!.record(y, [x, residual, weight, gate?.tensor, scale], (dy, wanted) => [
    wanted[0] ? linear(gpu, gate ? gated(gpu, dy, gate) : dy, w, back) : undefined,
    wanted[1] ? dy : undefined,
  ]);
  return y;
}
