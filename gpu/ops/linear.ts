/**
 * Linear layer.
 *
 * @module
 */
import { TilereelError } from "../common/errors.ts";
import type { Gpu } from "../gpu.ts";
import { type Activation, ACTIVATIONS } from "../kernels/gemm/epilogue.ts";
import { gemmLaunch, type GemmProblem, gemmVariantFor, gemmVariants } from "../kernels/gemm/variants.ts";
import type { ProductVariant } from "../kernels/product/variants.ts";
import { formatBytes } from "../common/format_bytes.ts";
import { sizeOf, Tensor } from "../tensor.ts";
import type { KernelFamily } from "../tuning/family.ts";
import { noise } from "../tuning/noise.ts";
import { activation as activate } from "./activation.ts";
import { Blocks, cutOperand, cutsOf, type Operand } from "./blocks.ts";
import { combine } from "./combine.ts";
import { gated } from "./gated.ts";
import type { ModulationVector } from "./modulation.ts";

/** Options of a linear layer: the operations that are fused with the product. */
export interface LinearOptions {
  /** [out], f32 */
  readonly bias?: Tensor | undefined;
  readonly activation?: Activation;
  /** [rows, out], f32: is added last. */
  readonly residual?: Tensor;
  /** Multiplies the result before the residual is added; one vector of `out` for each batch item. */
  readonly gate?: ModulationVector;
  /**
   * "f32" keeps the operands in f32, whatever the device's precision is. It is for operands that exceed 65504, the
   * range of f16.
   */
  readonly precision?: "f32";
  /**
   * [rows, out], f32: where to write the result, instead of to a new tensor; may be a part of one. While a tape is open,
   * not with an activation.
   */
  readonly into?: Tensor;
  /**
   * y = … x·w …, with w [in, out] and `out` a multiple of 4: the backward pass of a layer. Operands are f32 whatever
   * the device's precision is, because gradients may be too small for f16.
   */
  readonly transposed?: boolean;
  /** Computes the product by this variant, whatever its size and the device's fastest one. For trials and tests. */
  readonly variant?: ProductVariant;
}

/** The variants for large products. The trial has the width of Wan 1.3B. */
export const GEMM: KernelFamily<ProductVariant> = {
  name: "gemm",
  variants: gemmVariants,
  trial(gpu) {
    const x = noise(gpu, [8192, 2048]), w = noise(gpu, [1536, 2048], "bf16");
    return (variant) => gpu.scope(() => void linear(gpu, x, w, { variant }));
  },
  sample: (gpu, variant) =>
    linear(gpu, noise(gpu, [331, 264]), noise(gpu, [140, 264], "bf16"), { ...variant && { variant } }),
};

/**
 * y = residual + gate · act(x·wᵀ + bias)
 *
 * @param x [..., in], f32; `in` a multiple of 4
 * @param w [out, in], f32, bf16 or f16, as in PyTorch
 * @returns [..., out], f32
 */
export function linear(gpu: Gpu, x: Operand, w: Operand, options: LinearOptions = {}): Tensor {
  if (gpu.tape) return taped(gpu, x, w, options);
  const way = wayOf(gpu, x, w, options);
  const y = options.into ?? gpu.tensor([...x.shape.slice(0, -1), way.problem.n], "f32");
  product(gpu, way, x, w, options, y);
  return y;
}

/**
 * As {@link linear}, for an output that is used only as the input of another layer. The result has the form that the
 * other layer reads fastest: f16 in blocks, or a plain tensor.
 *
 * @param next the weight of the other layer
 */
export function linearInto(gpu: Gpu, x: Operand, w: Operand, next: Operand, options: LinearOptions = {}): Operand {
  const way = wayOf(gpu, x, w, options), { m, n } = way.problem, cut = inputCut(gpu, m, next);
  if (!cut || way.variant?.by !== "matrix units") return linear(gpu, x, w, options);
  const y = Blocks.empty(gpu, [...x.shape.slice(0, -1), n], cut);
  product(gpu, way, x, w, options, y);
  return y;
}

/**
 * Returns x in the form that products with weights like `w` read fastest, so that several of them can share it; this
 * may be x itself. Blocks belong to the enclosing scope.
 */
export function sharedInput(gpu: Gpu, x: Operand, w: Operand): Operand {
  if (x instanceof Blocks) return x;
  const cut = inputCut(gpu, x.size / x.dim(-1), w);
  return cut ? Blocks.of(gpu, x, cut) : x;
}

/** The same for w, for inputs of `rows` rows. */
export function sharedWeight(gpu: Gpu, w: Operand, rows: number): Operand {
  if (w instanceof Blocks) return w;
  const cut = sharedCuts(gpu, rows, w)?.w;
  return cut && isBindable(gpu, w) ? Blocks.of(gpu, w, cut) : w;
}

/**
 * The blocks that products of `rows` rows with weights like w want their input in; undefined where they take a tensor.
 */
export const inputCut = (gpu: Gpu, rows: number, w: Operand) => sharedCuts(gpu, rows, w)?.x;

/** The blocks that products of `rows` rows with w want their operands in. While a tape is open, there are none. */
function sharedCuts(gpu: Gpu, rows: number, w: Operand) {
  return gpu.tape ? undefined : cutsOf(gpu, variantOf(gpu, problemOf(gpu, rows, w)));
}

/** A product, and how to compute it. */
interface Way {
  readonly problem: GemmProblem;
  readonly variant: ProductVariant | undefined;
}

function wayOf(gpu: Gpu, x: Operand, w: Operand, options: LinearOptions): Way {
  const inner = x.shape.at(-1)!, problem = problemOf(gpu, sizeOf(x.shape) / inner, w, options);
  const { n, k, transposed, weights } = problem, row = transposed ? n : k;
  if (k !== inner || k % 4 !== 0 || row % 4 !== 0 || row % weights.blockElements !== 0) {
    throw new Error(`linear: x [${x.shape}] does not fit w [${w.shape}]${transposed ? ", transposed" : ""}`);
  }
  // Blocks whose plain tensor is gone were made for the variant of large products. That variant takes them, however few
  // there are.
  const onlyBlocks = x instanceof Blocks && !x.source;
  if (onlyBlocks && !problem.f16) throw new Error("linear: blocks are f16");
  const large = onlyBlocks ? options.variant ?? gpu.kernels.pick(GEMM) : undefined;
  return { problem, variant: large ?? variantOf(gpu, problem, options) };
}

function problemOf(gpu: Gpu, m: number, w: Operand, options: LinearOptions = {}): GemmProblem {
  const { precision, transposed = false } = options, first = w.shape[0]!, other = sizeOf(w.shape) / first;
  const [n, k] = transposed ? [other, first] : [first, other];
  const weights = (w instanceof Tensor ? w : w.source ?? w.tensor).matrixFormat;
  return { m, n, k, weights, transposed, f16: gpu.f16 && precision !== "f32" && !transposed };
}

const variantOf = (gpu: Gpu, problem: GemmProblem, options: LinearOptions = {}) =>
  options.variant ?? gemmVariantFor(gpu, problem, () => gpu.kernels.pick(GEMM));

/** Records the product. */
function product(
  gpu: Gpu,
  { problem, variant }: Way,
  x: Operand,
  w: Operand,
  options: LinearOptions,
  y: Operand,
): void {
  const { bias, activation = "none", residual, gate } = options;
  const { m, n: columns, k } = problem, none = gpu.placeholder, cuts = cutsOf(gpu, variant);
  const params = {
    m,
    columns,
    k4: k / 4,
    activation: ACTIVATIONS[activation],
    has_bias: bias ? 1 : 0,
    has_residual: residual ? 1 : 0,
    has_gate: gate ? 1 : 0,
    rows_per_batch: gate ? m / gate.tensor.dim(0) : 1,
    gate_offset: gate ? gate.index * columns : 0,
    gate_stride: gate ? gate.tensor.size / gate.tensor.dim(0) : 0,
  };
  gpu.scope(() => {
    const input = cutOperand(gpu, x, cuts?.x);
    for (const { first, w: part } of partsOf(gpu, w, problem)) {
      const n = problem.transposed ? columns : part.shape[0]!;
      const into = y instanceof Blocks ? y.cut : undefined;
      const { kernel, workgroups } = gemmLaunch(gpu, { ...problem, n }, variant, into);
      gpu.run(kernel, {
        buffers: {
          x: input,
          w: cutOperand(gpu, part, cuts?.w),
          bias: bias ?? none,
          residual: residual ?? none,
          gate: gate?.tensor ?? none,
          y: y instanceof Blocks ? y.tensor : y,
        },
        params: { ...params, n, first },
        workgroups,
      });
    }
  });
}

/** The rows of a part of a weight are a multiple of this, so that each part can be bound and starts with a block. */
const PART_ROWS = 256;

/** A weight that is too large to bind. It is split by rows; each part computes as many columns of the output. */
function partsOf(gpu: Gpu, w: Operand, { transposed }: GemmProblem): { readonly first: number; readonly w: Operand }[] {
  if (w instanceof Blocks || isBindable(gpu, w)) return [{ first: 0, w }];
  const rows = w.shape[0]!, most = Math.floor(gpu.maxTensorBytes / (w.bytes / rows) / PART_ROWS) * PART_ROWS;
  if (transposed || most === 0) {
    throw new TilereelError(
      `${transposed ? "the way back through " : ""}a weight of [${w.shape}] needs ${formatBytes(w.bytes)} at once, ` +
        `but this adapter allows ${formatBytes(gpu.maxTensorBytes)}; use another adapter`,
    );
  }
  return Array.from({ length: Math.ceil(rows / most) }, (_, i) => {
    const first = i * most;
    return { first, w: w.rows(first, Math.min(most, rows - first)) };
  });
}

const isBindable = (gpu: Gpu, w: Operand) => w instanceof Blocks || w.bytes <= gpu.maxTensorBytes;

/**
 * The same under a tape. The backward pass of an activation needs its input, so the activation is computed separately.
 */
function taped(gpu: Gpu, x: Operand, w: Operand, options: LinearOptions): Tensor {
  if (!(x instanceof Tensor && w instanceof Tensor)) throw new Error("linear: a tape takes no blocks");
  const { activation = "none", residual, gate, transposed = false, ...rest } = options;
  if (activation !== "none") {
    if (options.into) {
      throw new Error("linear: with an activation, no part of a tensor is written while a tape is open");
    }
    const y = activate(gpu, linear(gpu, x, w, { ...rest, transposed }), activation);
    if (gate) return gated(gpu, y, gate, residual);
    return residual ? combine(gpu, [[1, y], [1, residual]]) : y;
  }
  const y = gpu.untaped(() => linear(gpu, x, w, options));
  // Weight and gate count as constants. They are named here so that a tape that watches them reports an error.
  gpu.tape!.record(y, [x, residual, w, gate?.tensor], (dy, wanted) => [
    wanted[0] ? linear(gpu, gate ? gated(gpu, dy, gate) : dy, w, { transposed: !transposed }) : undefined,
    wanted[1] ? dy : undefined,
  ]);
  return y;
}
