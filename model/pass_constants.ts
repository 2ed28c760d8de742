import type { Gpu } from "../gpu/gpu.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { TensorOwner } from "../gpu/tensor_owner.ts";

/**
 * What one pass computes anew in every step of a clip, although it is the same in all of them, such as what is made of the
 * prompt. It is computed once, and is on the GPU until this is disposed of.
 */
export class PassConstants implements Disposable {
  readonly #owned: TensorOwner;
  readonly #made = new Map<object, Map<string, readonly Tensor[]>>();

  constructor(private readonly gpu: Gpu) {
    this.#owned = new TensorOwner(gpu);
  }

  /**
   * The tensors of that name: those that were made before, or new ones.
   *
   * @param of whose they are: of several transformers, each has its own
   * @param make records without waiting, and frees what it does not return
   */
  get<T extends readonly Tensor[]>(of: object, name: string, make: () => T): T {
    let own = this.#made.get(of);
    if (!own) this.#made.set(of, own = new Map());
    let made = own.get(name);
    if (!made) own.set(name, made = this.#owned.adopt(this.gpu.scope(make)));
    return made as T;
  }

  [Symbol.dispose](): void {
    this.#owned[Symbol.dispose]();
    this.#made.clear();
  }
}
