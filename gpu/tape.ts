/**
 * Reverse-mode differentiation. While a tape is open, ops record how to compute the gradients of their inputs from the
 * gradient of their output. Only ops that depend on a watched tensor are recorded, so frozen weights need neither work
 * nor memory.
 *
 * @module
 */
import type { Gpu } from "./gpu.ts";
import { combine } from "./ops/combine.ts";
import type { Tensor } from "./tensor.ts";

/**
 * Computes the gradients of an op's inputs from the gradient of its output.
 *
 * @param dy gradient of the output, of the same shape; it must not be overwritten
 * @param wanted for each input, whether its gradient is needed
 * @returns a gradient for each wanted input, of its size; the other elements are ignored. It may return `dy` itself
 */
export type Backward = (dy: Tensor, wanted: readonly boolean[]) => readonly (Tensor | undefined)[];

interface Step {
  readonly inputs: readonly (Tensor | undefined)[];
  readonly output: Tensor;
  readonly backward: Backward;
}

/**
 * The record that one stretch of a forward pass needs for its backward pass.
 *
 * ```ts
 * gpu.scope(() => {
 *   const tape = new Tape([x]);
 *   const y = gpu.taping(tape, () => runBlock(gpu, weights, config, x, conditioning));
 *   const [dx] = tape.gradients(gpu, y, dy, [x]);
 *   return dx!;
 * });
 * ```
 */
export class Tape {
  readonly #watched = new Set<GPUBuffer>();
  readonly #steps: Step[] = [];

  /** @param watched the tensors whose gradients will be requested */
  constructor(watched: readonly Tensor[]) {
    for (const { buffer } of watched) this.#watched.add(buffer);
  }

  /**
   * Records one op; called by ops. Tensors are identified by their buffers, so all views of one tensor count as one.
   */
  record(output: Tensor, inputs: readonly (Tensor | undefined)[], backward: Backward): void {
    if (!inputs.some((input) => input && this.#watched.has(input.buffer))) return;
    this.#watched.add(output.buffer);
    this.#steps.push({ inputs, output, backward });
  }

  /**
   * Runs the backward pass from `y`. Call it once, inside the scope that holds the taped tensors, with the tape closed.
   *
   * @param dy gradient of `y`, of the same shape; it belongs to the caller
   * @param of watched tensors
   * @returns the gradients of `of`, of the same shapes; undefined where `y` does not depend on a tensor
   */
  gradients(gpu: Gpu, y: Tensor, dy: Tensor, of: readonly Tensor[]): (Tensor | undefined)[] {
    const gradients = new Map<GPUBuffer, Tensor>([[y.buffer, dy]]);
    // One tensor may be the gradient of several others, for example of both operands of a sum.
    const drop = (tensor: Tensor) => {
      if (tensor.buffer === dy.buffer) return;
      for (const other of gradients.values()) if (other.buffer === tensor.buffer) return;
      gpu.release(tensor);
    };
    for (const { inputs, output, backward } of this.#steps.reverse()) {
      // A later op may have used a view of the output.
      const outer = gradients.get(output.buffer)?.reshape(output.shape);
      if (!outer) continue;
      const wanted = inputs.map((input) => input !== undefined && this.#watched.has(input.buffer));
      const inner: Tensor[] = [], targets: Tensor[] = [];
      gpu.scope(() => {
        const found = backward(outer, wanted);
        for (const [i, want] of wanted.entries()) {
          if (!want) continue;
          const gradient = found[i];
          if (!gradient) throw new Error(`no gradient for input ${i} of [${output.shape}]`);
          inner.push(gradient);
          targets.push(inputs[i]!);
        }
        return inner;
      });
      if (!of.some((tensor) => tensor.buffer === output.buffer)) gradients.delete(output.buffer);
      const done = new Map([[outer.buffer, outer]]);
      for (const [i, { buffer }] of targets.entries()) {
        const sofar = gradients.get(buffer), more = inner[i]!;
        gradients.set(buffer, sofar ? combine(gpu, [[1, sofar], [1, more]]) : more);
        if (sofar) done.set(sofar.buffer, sofar).set(more.buffer, more);
      }
      for (const tensor of done.values()) drop(tensor);
    }
    return of.map(({ buffer, shape }) => gradients.get(buffer)?.reshape(shape));
  }
}
