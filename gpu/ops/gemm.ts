/**
 * Matrix products: chooses the kernel and the number of launches.
 *
 * @module
 */
import { formatBytes } from "../common/format_bytes.ts";
import { TilereelError } from "../common/errors.ts";
import type { MatrixFormat } from "../formats/format.ts";
import type { Gpu } from "../gpu.ts";
import { type Activation, ACTIVATIONS, ofWeight } from "../kernels/gemm/epilogue.ts";
import { bf16 } from "../formats/bf16.ts";
import { f16 } from "../formats/f16.ts";
import { i8 } from "../formats/i8.ts";
import { type Int8Variant, int8Variants, isForInt8, PLAIN_INT8 } from "../kernels/gemm/int8_variants.ts";
import { isSameForm, type OperandForms } from "../kernels/gemm/operand_form.ts";
import { smallPanels } from "../kernels/gemm/panel_variants.ts";
import {
  type FloatVariant,
  formsOf,
  gemmLaunch,
  type GemmProblem,
  type GemmVariant,
  gemmVariantFor,
  gemmVariants,
} from "../kernels/gemm/variants.ts";
import { sizeOf, Tensor } from "../tensor.ts";
import type { Operands } from "../precision.ts";
import type { KernelFamily } from "../tuning/family.ts";
import { noise } from "../tuning/noise.ts";
import type { ModulationVector } from "./modulation.ts";
import { type Operand, PackedOperand, readableOperand } from "./packed_operand.ts";

/** Options of a product: the operations that are fused with it, and how it is computed. */
export interface GemmOptions {
  /** The scales of w's rows, which quantised weights have beside them: [rows of w], f32. */
  readonly scale?: Tensor | undefined;
  /** [out], f32 */
  readonly bias?: Tensor | undefined;
  readonly activation?: Activation;
  /** [rows, out], f32: is added last. */
  readonly residual?: Tensor;
  /** Multiplies the result before the residual is added; one vector of `out` for each batch item. */
  readonly gate?: ModulationVector;
  /**
   * "f32" keeps the operands in f32, whatever the device's precision is. It is for operands that exceed 65504, the
   * range of f16. Default: the device's, and f32 where w is transposed
   */
  readonly precision?: Operands | undefined;
  /**
   * y = … x·w …, with w [in, out] and `out` a multiple of 4: the backward pass of a layer. Operands are f32 whatever
   * the device's precision is, because gradients may be too small for f16, unless `precision` is "f16".
   */
  readonly transposed?: boolean;
  /** Computes the product by this variant, whatever its size and the device's fastest one. For trials and tests. */
  readonly variant?: GemmVariant;
}

/**
 * The sizes of trials: the tokens and the width of Wan 1.3B at 480p. Tiles are as many as in a model: a GPU computes some
 * hundreds at once, and with few tiles the last of them would decide.
 */
const TRIAL = { rows: 32760, width: 1536 };

/** The variants for large products. */
export const GEMM: KernelFamily<FloatVariant> = {
  name: "gemm",
  variants: gemmVariants,
  trial(gpu) {
    const { rows, width } = TRIAL, x = noise(gpu, [rows, width]), w = noise(gpu, [width, width], "bf16");
    return (variant) => gpu.scope(() => void product(gpu, x, w, { variant }));
  },
  sample: (gpu, variant) =>
    product(gpu, noise(gpu, [331, 264]), noise(gpu, [140, 264], "bf16"), variant ? { variant } : {}),
};

/** The variants for large products in int8, for the same trial. */
export const GEMM_INT8: KernelFamily<Int8Variant> = {
  name: "gemm_int8",
  variants: int8Variants,
  trial(gpu) {
    const { rows, width } = TRIAL, x = noise(gpu, [rows, width]), { tensor: w, scale } = quantised(gpu, [width, width]);
    return (variant) => gpu.scope(() => void product(gpu, x, w, { variant, scale }));
  },
  sample(gpu, variant = PLAIN_INT8) {
    const { tensor: w, scale } = quantised(gpu, [140, 272]);
    return product(gpu, noise(gpu, [331, 272]), w, { variant, scale });
  },
};

const quantised = (gpu: Gpu, shape: readonly number[]) => PackedOperand.of(gpu, noise(gpu, shape), { numbers: "i8" });

function product(gpu: Gpu, x: Tensor, w: Tensor, options: GemmOptions): Tensor {
  const y = gpu.tensor([x.dim(0), w.dim(0)]);
  recordGemm(gpu, planGemm(gpu, x, w, options), x, w, options, y);
  return y;
}

/** A product, and how it is computed. */
export interface GemmPlan {
  readonly problem: GemmProblem;
  /** `undefined` stands for the plain kernels. */
  readonly variant: GemmVariant | undefined;
}

/** Decides how x·wᵀ is computed. */
export function planGemm(gpu: Gpu, x: Operand, w: Operand, options: GemmOptions): GemmPlan {
  const inner = x.shape.at(-1)!, plan = planOf(gpu, sizeOf(x.shape) / inner, w, options), { problem } = plan;
  const { n, k, transposed, weights } = problem, row = transposed ? n : k;
  if (k !== inner || k % 4 !== 0 || row % 4 !== 0 || row % weights.blockElements !== 0) {
    throw new Error(`linear: x [${x.shape}] does not fit w [${w.shape}]${transposed ? ", transposed" : ""}`);
  }
  // An operand whose plain tensor is gone was packed for products of other sizes. Their variant takes it, however few
  // rows it has.
  if (!(x instanceof PackedOperand) || x.source) return plan;
  const { form } = x, { numbers } = form;
  if (numbers !== problem.operands) throw new Error(`linear: a product in ${problem.operands} takes no ${numbers}`);
  if (!form.panel || options.variant) return plan;
  const large = numbers === "i8" ? gpu.kernels.pick(GEMM_INT8) : gpu.kernels.pick(GEMM);
  const takes = (variant: GemmVariant | undefined) => {
    const wanted = formsOf(gpu, variant).x;
    return wanted !== undefined && isSameForm(wanted, form);
  };
  return { problem, variant: [plan.variant, large, smallPanels(gpu, numbers)].find(takes) };
}

/** As {@link planGemm}, for any x of m rows. */
function planOf(gpu: Gpu, m: number, w: Operand, options: GemmOptions = {}): GemmPlan {
  const { precision, transposed = false, scale, variant } = options;
  const first = w.shape[0]!, other = sizeOf(w.shape) / first, [n, k] = transposed ? [other, first] : [first, other];
  const weights = (w instanceof Tensor ? w : w.source ?? w.tensor).matrixFormat;
  const exact = precision === "f32" || transposed;
  const operands = exact ? "f32" : takesInt8(gpu, m, weights, variant) ? "i8" : gpu.f16 ? "f16" : "f32";
  const problem = { m, n, k, weights, transposed, scaled: scale !== undefined, operands } as const;
  const fastest = { gemm: () => gpu.kernels.pick(GEMM), int8: () => gpu.kernels.pick(GEMM_INT8) };
  return { problem, variant: variant ?? gemmVariantFor(gpu, problem, fastest) };
}

/** Whether a product is computed in int8: where its variant says so, or the device and its size. */
function takesInt8(gpu: Gpu, m: number, weights: MatrixFormat, variant: GemmVariant | undefined): boolean {
  if (variant) return variant.by === "dot products" || variant.by === "panels" && variant.numbers === "i8";
  return gpu.int8 && weights.name === i8.name && isForInt8({ m });
}

/**
 * The forms in which products of `rows` rows with weights like w read their operands. While a tape is open, these are
 * plain tensors.
 */
export function sharedForms(gpu: Gpu, rows: number, w: Operand): OperandForms {
  return gpu.tape ? {} : formsOf(gpu, planOf(gpu, rows, w).variant);
}

/** Records the product, with the operations that are fused with it, into y. Products of panels write f16, too. */
export function recordGemm(
  gpu: Gpu,
  { problem, variant }: GemmPlan,
  x: Operand,
  w: Operand,
  options: GemmOptions,
  y: Operand,
): void {
  const { scale, bias, activation = "none", residual, gate } = options;
  const none = gpu.placeholder, forms = formsOf(gpu, variant), params = paramsOf(problem, options);
  gpu.scope(() => {
    const input = readableOperand(gpu, x, forms.x), xScale = input.scale ? { x_scale: input.scale } : {};
    for (const { first, w: part } of partsOf(gpu, w, problem)) {
      const n = problem.transposed ? problem.n : part.shape[0]!;
      const into = y instanceof PackedOperand ? y.form.panel : halfRowsOf(y);
      const { kernel, workgroups } = gemmLaunch(gpu, { ...problem, n }, variant, { into, activation });
      gpu.run(kernel, {
        buffers: {
          ...{ x: input.tensor, ...xScale, w: readableOperand(gpu, part, forms.w).tensor },
          y: y instanceof PackedOperand ? y.tensor : y,
          ...{ scale: scale ?? none, bias: bias ?? none, residual: residual ?? none, gate: gate?.tensor ?? none },
        },
        params: { ...params, n, first },
        workgroups,
      });
    }
  });
}

/** What kernels are told of a whole product, and of the operations that are fused with it. */
function paramsOf(
  { m, n, k }: GemmProblem,
  { scale, bias, activation = "none", residual, gate }: GemmOptions,
): Readonly<Record<string, number>> {
  return {
    ...{ m, n, first: 0, columns: n, k4: k / 4, activation: ACTIVATIONS[activation] },
    ...{ has_scale: scale ? 1 : 0, has_bias: bias ? 1 : 0, has_residual: residual ? 1 : 0 },
    has_gate: !gate ? 0 : gate.tensor.dim(0) === 1 ? 1 : 2,
    rows_per_batch: gate ? m / gate.tensor.dim(0) : 1,
    gate_offset: gate ? gate.index * n : 0,
    gate_stride: gate ? gate.tensor.size / gate.tensor.dim(0) : 0,
  };
}

/** One of several weights of the same input. */
export interface WeightOfMany extends Pick<GemmOptions, "scale" | "bias" | "precision"> {
  readonly w: Operand;
}

/** The most weights of a dispatch. */
const MOST_WEIGHTS = 3;

/** The storage buffers of a dispatch of several weights: of each, and the input, its scales, and the counts of clamps. */
const buffersFor = (weights: number) => 4 * weights + 3;

/**
 * Decides how the products of x and several weights are computed in one dispatch; undefined where none can. Most browsers
 * allow too few buffers.
 */
export function planTogether(gpu: Gpu, x: Operand, weights: readonly WeightOfMany[]): GemmPlan | undefined {
  const [{ w, scale, bias, precision }] = weights as [WeightOfMany];
  const room = gpu.device.limits.maxStorageBuffersPerShaderStage;
  if (weights.length > MOST_WEIGHTS || buffersFor(weights.length) > room) return undefined;
  const plan = planGemm(gpu, x, w, { scale, precision }), form = formsOf(gpu, plan.variant).w;
  const fits = (one: WeightOfMany) =>
    one.w.shape.join() === w.shape.join() && !one.scale === !scale && !one.bias === !bias &&
    one.precision === precision &&
    (one.w instanceof PackedOperand ? isSameForm(one.w.form, form!) : isBindable(gpu, one.w));
  return plan.variant?.by === "panels" && weights.every(fits) ? plan : undefined;
}

/** Records them into `outputs`: rows of f32 or f16. */
export function recordTogether(
  gpu: Gpu,
  { problem, variant }: GemmPlan,
  x: Operand,
  weights: readonly WeightOfMany[],
  outputs: readonly Tensor[],
): void {
  const none = gpu.placeholder, forms = formsOf(gpu, variant);
  const { kernel, workgroups: [across, ...others] } = gemmLaunch(gpu, problem, variant, {
    activation: "none",
    ofWeights: outputs.map(({ format }) => format === f16 ? "f16" : "f32"),
  });
  gpu.scope(() => {
    const input = readableOperand(gpu, x, forms.x);
    const own = weights.flatMap(({ w, scale = none, bias = none }, i) => [
      [ofWeight("w", i), readableOperand(gpu, w, forms.w).tensor] as const,
      ...[[ofWeight("scale", i), scale], [ofWeight("bias", i), bias], [ofWeight("y", i), outputs[i]!]] as const,
    ]);
    gpu.run(kernel, {
      buffers: { x: input.tensor, ...input.scale && { x_scale: input.scale }, ...Object.fromEntries(own) },
      params: paramsOf(problem, weights[0]!),
      workgroups: [across * weights.length, ...others],
    });
  });
}

/** The format of rows in 16 bits. */
const halfRowsOf = ({ format }: Tensor) => format === bf16 ? "bf16" : format === f16 ? "f16" : undefined;

/** The rows of a part of a weight are a multiple of this, so that each part can be bound and starts with a panel. */
const PART_ROWS = 256;

/** A weight that is too large to bind. It is split by rows; each part computes as many columns of the output. */
function partsOf(gpu: Gpu, w: Operand, { transposed }: GemmProblem): { readonly first: number; readonly w: Operand }[] {
  if (w instanceof PackedOperand || isBindable(gpu, w)) return [{ first: 0, w }];
  const rows = w.shape[0]!, most = Math.floor(gpu.maxTensorBytes / (w.bytes / rows) / PART_ROWS) * PART_ROWS;
  if (transposed || most === 0) {
    throw new TilereelError(
      `${transposed ? "the backward pass through " : ""}a weight of [${w.shape}] needs ${
        formatBytes(w.bytes)
      } at once, ` +
        `but this adapter allows ${formatBytes(gpu.maxTensorBytes)}; use another adapter`,
    );
  }
  return Array.from({ length: Math.ceil(rows / most) }, (_, i) => {
    const first = i * most;
    return { first, w: w.rows(first, Math.min(most, rows - first)) };
  });
}

/** Whether a weight can be bound at once. */
export const isBindable = (gpu: Gpu, w: Operand) => w instanceof PackedOperand || w.bytes <= gpu.maxTensorBytes;
