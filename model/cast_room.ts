/**
 * Room on the GPU for a piece of a weight as it is stored, from where it is cast into its place.
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

  /** A tensor of so many numbers; what the one before held is lost. */
  take(count: number, dtype: GpuDtype): Tensor {
    const bytes = bytesOf([count], dtype);
    if (this.#tensor && this.#tensor.bytes < bytes) this.release();
    this.#tensor ??= this.gpu.tensor([bytes / 4], "u32", "weights to be cast");
    return new Tensor(this.#tensor.buffer, 0, [count], dtype);
  }

  /** Frees it. Work already recorded still runs on it. */
  release(): void {
    if (this.#tensor) this.gpu.release(this.#tensor);
    this.#tensor = undefined;
  }
}
