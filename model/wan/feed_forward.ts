/**
 * The feed-forward of a block, and the way back through it.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { activationSlope } from "../../gpu/ops/activation.ts";
import { Blocks, type Operand } from "../../gpu/ops/blocks.ts";
import { gated } from "../../gpu/ops/gated.ts";
import { linear, linearInto, sharedWeight } from "../../gpu/ops/linear.ts";
import type { Chunk } from "../../gpu/ops/modulation.ts";
import { sizeOf, type Tensor } from "../../gpu/tensor.ts";
import type { Linear } from "./linear.ts";

/** Weights of a feed-forward. */
export interface FeedForwardWeights {
  readonly up: Linear;
  readonly down: Linear;
}

/**
 * The widened activations of a feed-forward take at most so many bytes at once, or as many as its input where that is
 * more: then they fit a buffer that attention has left.
 */
const FFN_BYTES = 128 * 2 ** 20;

/**
 * residual + gate · down(gelu(up(x))), a piece of the tokens at a time where the widened activations are large.
 *
 * One step on the tape: the way back makes the widened activations anew, in such pieces, two tensors of them at once.
 *
 * @param x [batch, tokens, dim]; a batch of one, where it is in blocks
 * @param residual [batch, tokens, dim]
 * @param widenedBytes the most that the widened activations of a piece may take, but for the least piece: 64 tokens,
 * and whole blocks
 * @returns [batch, tokens, dim]
 */
export function feedForward(
  gpu: Gpu,
  w: FeedForwardWeights,
  x: Operand,
  gate: Chunk,
  residual: Tensor,
  widenedBytes = Math.max(FFN_BYTES, residual.bytes),
): Tensor {
  const y = gpu.tensor(x.shape), rows = sizeOf(x.shape) / x.shape.at(-1)!, widened = w.up.weight.dim(0);
  gpu.untaped(() =>
    gpu.scope(() => {
      const up = sharedWeight(gpu, w.up.weight, rows), down = sharedWeight(gpu, w.down.weight, rows);
      for (const piece of piecesOf(gpu, x, widened * (down instanceof Blocks ? 2 : 4), widenedBytes)) {
        gpu.scope(() => {
          const wide = linearInto(gpu, piece.input(x), up, down, { bias: w.up.bias, activation: "gelu_tanh" });
          linear(gpu, wide, down, {
            bias: w.down.bias,
            gate: piece.gate(gate),
            residual: piece.rows(residual),
            into: piece.rows(y),
          });
        });
      }
    })
  );
  // While a tape is open nothing is in blocks.
  if (x instanceof Blocks) return y;
  gpu.tape?.record(y, [x, residual, gate.tensor], (dy, wanted) => {
    if (!wanted[0]) return [undefined, dy];
    const dx = gpu.tensor(x.shape);
    for (const piece of piecesOf(gpu, x, 4 * widened, widenedBytes)) {
      backward(gpu, w, piece.rows(x), piece.gate(gate), piece.rows(dy), piece.rows(dx));
    }
    return [dx, dy];
  });
  return y;
}

/** dx = ((gate · dy)·W_down · gelu′(up(x)))·W_up, of one piece. */
function backward(gpu: Gpu, w: FeedForwardWeights, x: Tensor, gate: Chunk, dy: Tensor, dx: Tensor): void {
  gpu.scope(() => {
    const slope = gpu.scope(() => activationSlope(gpu, linear(gpu, x, w.up.weight, w.up), "gelu_tanh"));
    // Each row is a batch item of its own here, so that its slopes are its gate.
    const rows = { tensor: slope.reshape([x.size / x.dim(-1), 1, slope.dim(-1)]), index: 0 };
    const widened = linear(gpu, gated(gpu, dy, gate), w.down.weight, { transposed: true, gate: rows });
    linear(gpu, widened, w.up.weight, { transposed: true, into: dx });
  });
}

/** Some of the tokens: what cuts a tensor [batch, tokens, dim], and one with a vector a batch item, to them. */
interface Piece {
  rows(tensor: Tensor): Tensor;
  input(x: Operand): Operand;
  gate(chunk: Chunk): Chunk;
}

/** @param each bytes of a token's widened activations */
function piecesOf(gpu: Gpu, x: Operand, each: number, bytes: number): Piece[] {
  const [batch, tokens, dim] = x.shape as [number, number, number];
  const most = Math.floor(Math.min(bytes, gpu.maxTensorBytes) / each);
  // The items of a small batch may begin where no buffer can be bound.
  if (batch * tokens <= most) return [{ rows: (tensor) => tensor, input: (x) => x, gate: (chunk) => chunk }];
  if (x instanceof Blocks && batch > 1) throw new Error("blocks of a batch cannot be cut into pieces");
  // A multiple of 64 rows keeps every piece on a boundary that can be bound, and like lengths share a buffer.
  const step = x instanceof Blocks ? leastCommonMultiple(64, x.cut.rows) : 64;
  const count = Math.ceil(tokens / Math.max(step, Math.floor(most / step) * step));
  const length = Math.ceil(tokens / count / step) * step;
  const pieces: Piece[] = [];
  for (let b = 0; b < batch; b++) {
    for (let start = 0; start < tokens; start += length) {
      const rows = Math.min(length, tokens - start);
      const cut = (tensor: Tensor) => tensor.rows(b, 1).reshape([tokens, dim]).rows(start, rows);
      pieces.push({
        rows: cut,
        input: (x) => x instanceof Blocks ? x.rows(start, rows) : cut(x),
        gate: ({ tensor, index }) => ({ tensor: tensor.rows(b, 1), index }),
      });
    }
  }
  return pieces;
}

function leastCommonMultiple(a: number, b: number): number {
  const divisor = (a: number, b: number): number => b === 0 ? a : divisor(b, a % b);
  return a / divisor(a, b) * b;
}
