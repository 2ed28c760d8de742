import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";

/** An activation in this machine's memory, or on its way there. */
interface Offloaded {
  readonly shape: readonly number[];
  readonly numbers: Promise<Float32Array>;
}

/** Activations (f32) that wait for the backward pass: on the GPU up to a limit, beyond it in this machine's memory. */
export class ActivationStack implements Disposable {
  readonly #items: (Tensor | Offloaded)[] = [];
  readonly #owner: TensorOwner;
  #kept = 0;
  #reading: Promise<unknown> | undefined;

  /** @param keepBytes the GPU memory that it may use */
  constructor(gpu: Gpu, private readonly keepBytes: number) {
    this.#owner = new TensorOwner(gpu);
  }

  /** Takes a tensor over. What it reads arrives while the GPU works on: it waits only for what was read before. */
  async push(tensor: Tensor): Promise<void> {
    this.#owner.adopt(tensor);
    if (this.#kept + tensor.bytes <= this.keepBytes) {
      this.#kept += tensor.bytes;
      this.#items.push(tensor);
      return;
    }
    const before = this.#reading, numbers = this.#owner.gpu.read(tensor);
    numbers.catch(() => {/* told where it is waited for */});
    // The copy is recorded, so its memory may be used again after that.
    this.#owner.free(tensor);
    this.#reading = numbers;
    this.#items.push({ shape: tensor.shape, numbers });
    await before;
  }

  /** Returns the last tensor, which the caller owns from now on. */
  async pop(): Promise<Tensor> {
    const item = this.#items.pop();
    if (!item) throw new Error("no activation is left");
    if ("numbers" in item) return this.#owner.gpu.upload(await item.numbers, item.shape);
    this.#kept -= item.bytes;
    return this.#owner.disown(item);
  }

  [Symbol.dispose](): void {
    this.#owner[Symbol.dispose]();
  }
}
