/**
 * Tensors put aside for later, the last one first: on the GPU as long as they are few, then in this machine's memory.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";

interface Parked {
  readonly shape: readonly number[];
  readonly numbers: Float32Array;
}

/** A stack of f32 tensors that holds at most so much GPU memory, however high it gets. */
export class Shelf {
  readonly #items: (Tensor | Parked)[] = [];
  #kept = 0;

  /** @param keepBytes GPU memory that it may hold */
  constructor(private readonly gpu: Gpu, private readonly keepBytes: number) {}

  /** Takes over a tensor. */
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

  /** Gives back the tensor that was put last. */
  take(): Tensor {
    const item = this.#items.pop();
    if (!item) throw new Error("the shelf is empty");
    if ("numbers" in item) return this.gpu.upload(item.numbers, item.shape);
    this.#kept -= item.bytes;
    return item;
  }

  /** Frees what is left. */
  clear(): void {
    for (const item of this.#items.splice(0)) if (!("numbers" in item)) this.gpu.release(item);
  }
}
