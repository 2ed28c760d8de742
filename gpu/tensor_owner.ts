import type { Gpu } from "./gpu.ts";
import type { Tensor } from "./tensor.ts";

/**
 * Owns tensors that outlive a scope, and frees them together.
 *
 * ```ts
 * using building = new TensorOwner(gpu); // frees what it owns if something below throws
 * const table = building.adopt(gpu.upload(numbers, shape));
 * this.#owned = building.move();
 * ```
 *
 * Tensors are told apart by their buffers: a view of an owned tensor stands for it.
 */
export class TensorOwner implements Disposable {
  readonly #owned = new Map<GPUBuffer, Tensor>();

  constructor(readonly gpu: Gpu) {}

  /**
   * Takes tensors out of their scopes. They are freed when this owner is disposed of.
   *
   * @returns its argument
   */
  adopt<T extends Tensor | readonly Tensor[]>(owned: T): T {
    for (const tensor of [owned].flat() as Tensor[]) this.#owned.set(tensor.buffer, this.gpu.keep(tensor));
    return owned;
  }

  /**
   * Frees tensors now. Recorded work can still use them.
   *
   * @throws when one is not owned
   */
  free(...tensors: readonly Tensor[]): void {
    for (const tensor of tensors) this.gpu.release(this.disown(tensor));
  }

  /**
   * Gives a tensor up: the caller owns it from now on.
   *
   * @throws when it is not owned
   */
  disown(tensor: Tensor): Tensor {
    if (!this.#owned.delete(tensor.buffer)) throw new Error(`a tensor of [${tensor.shape}] is not owned here`);
    return tensor;
  }

  /** Moves all tensors to a new owner. This one owns nothing afterwards, as with `DisposableStack.move`. */
  move(): TensorOwner {
    const moved = new TensorOwner(this.gpu);
    for (const [buffer, tensor] of this.#owned) moved.#owned.set(buffer, tensor);
    this.#owned.clear();
    return moved;
  }

  [Symbol.dispose](): void {
    this.free(...this.#owned.values());
  }
}
