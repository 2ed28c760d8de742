/**
 * A GPU buffer for a piece of a weight in its stored format, from which it is cast to its place.
 *
 * @module
 */
import type { Gpu } from "../gpu/gpu.ts";
import { bytesOf, type GpuDtype, Tensor } from "../gpu/tensor.ts";

/**
 * A staging tensor for casts. It is kept while weights are loaded: if it were freed after each piece, the pool would hand
 * it out to a weight.
 */
export class CastRoom {
  #tensor: Tensor | undefined;

  constructor(private readonly gpu: Gpu) {}

  /** Returns a tensor of `count` numbers. It overwrites the previous one. */
  take(count: number, dtype: GpuDtype): Tensor {
    const bytes = bytesOf([count], dtype);
    if (this.#tensor && this.#tensor.bytes < bytes) this.release();
    this.#tensor ??= this.gpu.tensor([bytes / 4], "u32", "weights to be cast");
    return new Tensor(this.#tensor.buffer, 0, [count], dtype);
  }

  /** Frees the memory. Recorded work can still use it. */
  release(): void {
    if (this.#tensor) this.gpu.release(this.#tensor);
    this.#tensor = undefined;
  }
}
