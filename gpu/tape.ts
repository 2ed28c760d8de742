import type { Gpu } from "./gpu.ts";
import { combine } from "./ops/combine.ts";
import { fill } from "./ops/elementwise.ts";
import type { Operands } from "./precision.ts";
import type { Backward } from "./scopes.ts";
import { Tensor } from "./tensor.ts";

interface Step {
  readonly inputs: readonly (Tensor | undefined)[];
  readonly output: Tensor;
  readonly backward: Backward;
}

/**
 * The record that one stretch of a forward pass needs for its backward pass: reverse-mode differentiation. While it is
 * open, ops record how to compute the gradients of their inputs from the gradient of their output. Only ops that depend
 * on a watched tensor are recorded, so frozen weights need neither work nor memory.
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
  /** For each watched buffer the range of bytes that tensors use. One gradient covers all of the range. */
  readonly #watched = new Map<GPUBuffer, Range>();
  readonly #steps: Step[] = [];

  /**
   * @param watched the tensors whose gradients will be requested
   * @param products the operands of the backward pass's matrix products. With "f16", gradients must be scaled so that f16
   * holds them; where the device multiplies in f32 only, it changes nothing
   */
  constructor(watched: readonly Tensor[], readonly products: Operands = "f32") {
    for (const tensor of watched) this.#watch(tensor);
  }

  /**
   * Records one op; called by ops. Views of one buffer are parts of one tensor: ops may write and read parts, but a part
   * must be written before it is read, and only once.
   */
  record(output: Tensor, inputs: readonly (Tensor | undefined)[], backward: Backward): void {
    const read = inputs.filter((input) => input && this.#watched.has(input.buffer)) as Tensor[];
    if (read.length === 0) return;
    for (const tensor of [...read, output]) this.#watch(tensor);
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
    this.#watch(y);
    const gradients = new Map<GPUBuffer, Tensor>();
    /** The part of a buffer's gradient that belongs to a tensor. */
    const partOf = (whole: Tensor, { buffer, offset, shape }: Tensor) =>
      new Tensor(whole.buffer, whole.offset + offset - this.#watched.get(buffer)!.start, shape, whole.format);
    const add = (target: Tensor, more: Tensor) => {
      const { start, end } = this.#watched.get(target.buffer)!, sofar = gradients.get(target.buffer);
      if (more.bytes === end - start) {
        gradients.set(target.buffer, sofar ? combine(gpu, [[1, sofar], [1, more]]) : more);
        return;
      }
      const whole = gpu.tensor([(end - start) / 4]);
      if (sofar) gpu.copy(sofar, whole);
      else fill(gpu, whole, 0);
      gpu.scope(() => {
        const sum = sofar ? combine(gpu, [[1, partOf(sofar, target)], [1, more]]) : more;
        gpu.copy(sum, partOf(whole, target));
      });
      gradients.set(target.buffer, whole);
    };
    // One tensor may be the gradient of several others, for example of both operands of a sum.
    const drop = (tensor: Tensor) => {
      if (tensor.buffer === dy.buffer) return;
      for (const other of gradients.values()) if (other.buffer === tensor.buffer) return;
      gpu.release(tensor);
    };
    add(y, dy);
    const unwritten = Map.groupBy(this.#steps, ({ output }) => output.buffer);
    for (const step of this.#steps.toReversed()) {
      const { inputs, output, backward } = step, whole = gradients.get(output.buffer);
      if (!whole) continue;
      const wanted = inputs.map((input) => input !== undefined && this.#watched.has(input.buffer));
      const inner: Tensor[] = [], targets: Tensor[] = [];
      gpu.scope(() => {
        const found = backward(partOf(whole, output), wanted);
        for (const [i, want] of wanted.entries()) {
          if (!want) continue;
          const gradient = found[i];
          if (!gradient) throw new Error(`no gradient for input ${i} of [${output.shape}]`);
          inner.push(gradient);
          targets.push(inputs[i]!);
        }
        return inner;
      });
      const first = unwritten.get(output.buffer)![0] === step;
      if (first && !of.some((tensor) => tensor.buffer === output.buffer)) gradients.delete(output.buffer);
      const done = new Map([[whole.buffer, whole]]);
      for (const [i, target] of targets.entries()) {
        const sofar = gradients.get(target.buffer), more = inner[i]!;
        add(target, more);
        for (const tensor of sofar ? [sofar, more] : [more]) done.set(tensor.buffer, tensor);
      }
      for (const tensor of done.values()) drop(tensor);
    }
    return of.map((tensor) => {
      const whole = gradients.get(tensor.buffer);
      return whole && partOf(whole, tensor);
    });
  }

  #watch({ buffer, offset, bytes }: Tensor): void {
    const { start, end } = this.#watched.get(buffer) ?? { start: offset, end: offset };
    this.#watched.set(buffer, { start: Math.min(start, offset), end: Math.max(end, offset + bytes) });
  }
}

/** In bytes. */
interface Range {
  readonly start: number;
  readonly end: number;
}
