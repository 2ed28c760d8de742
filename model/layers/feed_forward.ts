import type { Gpu } from "../../gpu/gpu.ts";
import { activationSlope } from "../../gpu/ops/activation.ts";
import type { Activation } from "../../gpu/kernels/gemm/epilogue.ts";
import { type Operand, PackedOperand } from "../../gpu/ops/packed_operand.ts";
import type { Operands } from "../../gpu/precision.ts";
import { gated } from "../../gpu/ops/gated.ts";
import { sharedForms } from "../../gpu/ops/gemm.ts";
import { type ModulationVector, rowGates } from "../../gpu/ops/modulation.ts";
import { sizeOf, type Tensor } from "../../gpu/tensor.ts";
import type { Linear } from "./linear.ts";
import { leastCommonMultiple } from "../../gpu/common/divisors.ts";

/** Weights of a feed-forward. */
export interface FeedForwardWeights {
  readonly up: Linear;
  readonly down: Linear;
}

/** Options of {@link feedForward}. */
export interface FeedForwardOptions {
  /** Default: "gelu_tanh" */
  readonly activation?: Activation;
  /** [batch, tokens, dim], f32: where to write the result, instead of to a new tensor; may be a part of one */
  readonly into?: Tensor;
  /**
   * The most bytes that the widened activations of a part may have. The smallest part is 64 tokens and whole panels.
   * Default: 128 MiB, or as many as the result has
   */
  readonly widenedBytes?: number;
}

/** Where the result is larger, widened activations may be as large: they fit a buffer that attention has released. */
const WIDENED_BYTES = 128 * 2 ** 20;

/**
 * residual + gate · down(act(up(x))), without residual and gate where they are not given; computed over parts of the tokens if the widened activations are large.
 *
 * It is one step on the tape. The backward pass makes the widened activations again, part by part, two tensors at once.
 *
 * @param x [batch, tokens, dim]; the batch must be one if x is packed
 * @param residual [batch, tokens, dim]
 * @returns [batch, tokens, dim]
 */
export function feedForward(
  gpu: Gpu,
  w: FeedForwardWeights,
  x: Operand,
  gate?: ModulationVector,
  residual?: Tensor,
  { activation = "gelu_tanh", into, widenedBytes = Math.max(WIDENED_BYTES, 4 * sizeOf(x.shape)) }: FeedForwardOptions =
    {},
): Tensor {
  const y = into ?? gpu.tensor(x.shape), rows = sizeOf(x.shape) / x.shape.at(-1)!, widened = w.up.outputs;
  gpu.untaped(() =>
    gpu.scope(() => {
      const up = w.up.shared(gpu, rows), down = w.down.shared(gpu, rows);
      // What is packed next is written in 16 bits, except by plain kernels.
      const each = sharedForms(gpu, rows, down.weight).x && !gpu.kernels.plain ? 2 : 4;
      for (const piece of piecesOf(gpu, x, widened * each, widenedBytes)) {
        gpu.scope(() => {
          const wide = up.applyInto(gpu, piece.input(x), down, { activation });
          down.apply(gpu, wide, {
            ...gate && { gate: piece.gate(gate) },
            ...residual && { residual: piece.rows(residual) },
            into: piece.rows(y),
          });
        });
      }
    })
  );
  // While a tape is open, no operand is packed.
  if (x instanceof PackedOperand) return y;
  const precision = gpu.tape?.products ?? "f32";
  gpu.tape?.record(y, [x, residual, gate?.tensor], (dy, wanted) => {
    if (!wanted[0]) return [undefined, dy];
    const dx = gpu.tensor(x.shape);
    for (const piece of piecesOf(gpu, x, 4 * widened, widenedBytes)) {
      backward(
        gpu,
        { ...w, activation, precision },
        piece.rows(x),
        gate && piece.gate(gate),
        piece.rows(dy),
        piece.rows(dx),
      );
    }
    return [dx, dy];
  });
  return y;
}

/** dx = ((gate · dy)·W_down · act′(up(x)))·W_up, for one part. */
function backward(
  gpu: Gpu,
  { up, down, activation, precision }: FeedForwardWeights & {
    readonly activation: Activation;
    readonly precision: Operands;
  },
  x: Tensor,
  gate: ModulationVector | undefined,
  dy: Tensor,
  dx: Tensor,
): void {
  gpu.scope(() => {
    const slope = gpu.scope(() => activationSlope(gpu, up.apply(gpu, x), activation));
    const widened = down.backward(gpu, gate ? gated(gpu, dy, gate) : dy, { gate: rowGates(slope), precision });
    up.backward(gpu, widened, { into: dx, precision });
  });
}

/** Some of the tokens, with functions that cut tensors to them: [batch, tokens, dim], or one vector per batch item. */
interface Piece {
  rows(tensor: Tensor): Tensor;
  input(x: Operand): Operand;
  gate(vector: ModulationVector): ModulationVector;
}

/** @param each the bytes of a token's widened activations */
function piecesOf(gpu: Gpu, x: Operand, each: number, bytes: number): Piece[] {
  const [batch, tokens, dim] = x.shape as [number, number, number];
  const most = Math.floor(Math.min(bytes, gpu.maxTensorBytes) / each);
  // The items of a small batch may start at an offset that cannot be bound.
  if (batch * tokens <= most) return [{ rows: (tensor) => tensor, input: (x) => x, gate: (vector) => vector }];
  if (x instanceof PackedOperand && batch > 1) throw new Error("a packed batch cannot be cut into pieces");
  // With a multiple of 64 rows, every part starts at an offset that can be bound, and equal lengths share a buffer.
  const step = x instanceof PackedOperand ? leastCommonMultiple(64, x.rowStep) : 64;
  const count = Math.ceil(tokens / Math.max(step, Math.floor(most / step) * step));
  const length = Math.ceil(tokens / count / step) * step;
  const pieces: Piece[] = [];
  for (let b = 0; b < batch; b++) {
    for (let start = 0; start < tokens; start += length) {
      const rows = Math.min(length, tokens - start);
      const cut = (tensor: Tensor) => tensor.rows(b, 1).reshape([tokens, dim]).rows(start, rows);
      pieces.push({
        rows: cut,
        input: (x) => x instanceof PackedOperand ? x.rows(start, rows) : cut(x),
        gate: ({ tensor, index }) => ({ tensor: tensor.rows(b, 1), index }),
      });
    }
  }
  return pieces;
}
