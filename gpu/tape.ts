/**
 * Reverse-mode differentiation: while a tape is open, ops note how the gradient of their output becomes that of their
 * inputs. Only what depends on a watched tensor is noted, so frozen weights get neither work nor memory.
 *
 * @module
 */
import type { Gpu } from "./gpu.ts";
import { combine } from "./ops/combine.ts";
import type { Tensor } from "./tensor.ts";

/**
 * Gradients of an op's inputs from that of its output.
 *
 * @param dy of the output, same shape; must not be overwritten
 * @param wanted for each input whether its gradient is needed
 * @returns one a wanted input, of its size; what stands for the others is ignored. May return `dy` itself
 */
export type Backward = (dy: Tensor, wanted: readonly boolean[]) => readonly (Tensor | undefined)[];

interface Step {
  readonly inputs: readonly (Tensor | undefined)[];
  readonly output: Tensor;
  readonly backward: Backward;
}

/**
 * What one stretch of a forward pass needs to be run backwards.
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

  /** @param watched what gradients will be asked of */
  constructor(watched: readonly Tensor[]) {
    for (const { buffer } of watched) this.#watched.add(buffer);
  }

  /** Notes one op; called by ops. Tensors are told apart by their buffers, so views of one are one. */
  record(output: Tensor, inputs: readonly (Tensor | undefined)[], backward: Backward): void {
    if (!inputs.some((input) => input && this.#watched.has(input.buffer))) return;
    this.#watched.add(output.buffer);
    this.#steps.push({ inputs, output, backward });
  }

  /**
   * Runs backwards from `y`. To be called once, inside the scope that holds what was taped, with the tape closed.
   *
   * @param dy gradient of `y`, same shape; the caller's
   * @param of watched tensors
   * @returns the gradients of `of`, same shapes; undefined where `y` does not depend on it
   */
  gradients(gpu: Gpu, y: Tensor, dy: Tensor, of: readonly Tensor[]): (Tensor | undefined)[] {
    const gradients = new Map<GPUBuffer, Tensor>([[y.buffer, dy]]);
    // One tensor may be the gradient of several: of both operands of a sum, say.
    const drop = (tensor: Tensor) => {
      if (tensor.buffer === dy.buffer) return;
      for (const other of gradients.values()) if (other.buffer === tensor.buffer) return;
      gpu.release(tensor);
    };
    for (const { inputs, output, backward } of this.#steps.reverse()) {
      // A view of the output may have been what went on.
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
