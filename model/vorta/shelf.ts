/**
 * A stack of tensors. It is on the GPU up to a limit, and beyond that in this machine's memory.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";

interface Parked {
  readonly shape: readonly number[];
  readonly numbers: Float32Array;
}

/** A stack of f32 tensors that uses a limited amount of GPU memory, however many there are. */
export class Shelf {
  readonly #items: (Tensor | Parked)[] = [];
  #kept = 0;

  /** @param keepBytes the GPU memory that it may use */
  constructor(private readonly gpu: Gpu, private readonly keepBytes: number) {}

  /** Pushes a tensor and takes it over. */
  async put(tensor: Tensor): Promise<void> {
    if (this.#kept + tensor.bytes <= this.keepBytes) {
      this.#kept += tensor.bytes;
      this.#items.push(tensor);
      return;
    }
    try {
      this.#items.push({ shape: tensor.shape, numbers: await this.gpu.read(tensor) });
    } finally {
      this.gpu.release(tensor);
    }
  }

  /** Pops the last tensor. */
  take(): Tensor {
    const item = this.#items.pop();
    if (!item) throw new Error("the shelf is empty");
    if ("numbers" in item) return this.gpu.upload(item.numbers, item.shape);
    this.#kept -= item.bytes;
    return item;
  }

  /** Frees the remaining tensors. */
  clear(): void {
    for (const item of this.#items.splice(0)) if (!("numbers" in item)) this.gpu.release(item);
  }
}
