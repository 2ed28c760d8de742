import type { TensorFormat } from "../../gpu/formats/format.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { bytesOf, Tensor } from "../../gpu/tensor.ts";

/**
 * A GPU tensor for a piece of a weight in its stored format, from which it is cast to its place. It is kept while
 * weights are loaded: if it were freed after each piece, the pool would hand it out to a weight.
 */
export class CastRoom implements Disposable {
  #tensor: Tensor | undefined;

  constructor(private readonly gpu: Gpu) {}

  /** Returns a tensor that overwrites the previous one. */
  take(shape: readonly number[], format: TensorFormat): Tensor {
    const bytes = bytesOf(shape, format);
    if (this.#tensor && this.#tensor.bytes < bytes) this[Symbol.dispose]();
    this.#tensor ??= this.gpu.tensor([bytes / 4], "u32", "weights to be cast");
    return new Tensor(this.#tensor.buffer, 0, shape, format);
  }

  /** Frees the memory. Recorded work can still use it, and the next piece allocates it again. */
  [Symbol.dispose](): void {
    if (this.#tensor) this.gpu.release(this.#tensor);
    this.#tensor = undefined;
  }
}
