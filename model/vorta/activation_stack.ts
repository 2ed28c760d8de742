import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";

/** An activation in this machine's memory. */
interface Offloaded {
  readonly shape: readonly number[];
  readonly numbers: Float32Array;
}

/** Activations (f32) that wait for the backward pass: on the GPU up to a limit, beyond it in this machine's memory. */
export class ActivationStack implements Disposable {
  readonly #items: (Tensor | Offloaded)[] = [];
  readonly #owner: TensorOwner;
  #kept = 0;

  /** @param keepBytes the GPU memory that it may use */
  constructor(gpu: Gpu, private readonly keepBytes: number) {
    this.#owner = new TensorOwner(gpu);
  }

  /** Takes a tensor over. */
  async push(tensor: Tensor): Promise<void> {
    this.#owner.adopt(tensor);
    if (this.#kept + tensor.bytes <= this.keepBytes) {
      this.#kept += tensor.bytes;
      this.#items.push(tensor);
      return;
    }
    this.#items.push({ shape: tensor.shape, numbers: await this.#owner.gpu.read(tensor) });
    this.#owner.free(tensor);
  }

  /** Returns the last tensor, which the caller owns from now on. */
  pop(): Tensor {
    const item = this.#items.pop();
    if (!item) throw new Error("no activation is left");
    if ("numbers" in item) return this.#owner.gpu.upload(item.numbers, item.shape);
    this.#kept -= item.bytes;
    return this.#owner.disown(item);
  }

  [Symbol.dispose](): void {
    this.#owner[Symbol.dispose]();
  }
}
