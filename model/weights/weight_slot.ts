import type { TensorFormat } from "../../gpu/formats/format.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { bytesOf, Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { CastRoom } from "./cast_room.ts";

/** What the name of a matrix's scale has after the matrix's own. */
export const SCALE = " scale";

/** Memory for one block's weights. The first block allocates the tensors; later blocks overwrite them. */
export class WeightSlot implements Disposable {
  /** Memory for weights that are to be cast. */
  readonly castRoom: CastRoom;
  readonly #owned: TensorOwner;
  /** The tensors, by their names in a block. */
  readonly #tensors = new Map<string, Tensor>();
  #staging: Uint8Array<ArrayBuffer> | undefined;
  #open = true;

  constructor(private readonly gpu: Gpu) {
    this.castRoom = new CastRoom(gpu);
    this.#owned = new TensorOwner(gpu);
  }

  /** A buffer between file and GPU of at least so many bytes, which is reused so that streaming makes no garbage. */
  staging(bytes: number): Uint8Array<ArrayBuffer> {
    if (!this.#staging || this.#staging.length < bytes) this.#staging = new Uint8Array(bytes);
    return this.#staging;
  }

  /** The names and shapes of its weights; scales belong to them. */
  get layout(): { readonly name: string; readonly shape: readonly number[] }[] {
    return [...this.#tensors].filter(([name]) => !name.endsWith(SCALE)).map(([name, { shape }]) => ({ name, shape }));
  }

  /** The tensor of that name. A new one is made if there is none yet, or if a block has it in a wider format. */
  tensor(name: string, shape: readonly number[], format: TensorFormat, what: string): Tensor {
    this.assertOpen();
    const before = this.#tensors.get(name);
    if (before && before.buffer.size >= bytesOf(shape, format)) return new Tensor(before.buffer, 0, shape, format);
    if (before) this.#owned.free(before);
    this.#tensors.delete(name);
    const tensor = this.#owned.adopt(this.gpu.weight(shape, format, what));
    this.#tensors.set(name, tensor);
    return tensor;
  }

  /** @throws {Error} after it was disposed of, which ends an upload that was still running */
  assertOpen(): void {
    if (!this.#open) throw new Error("the slot was released");
  }

  /** Frees its tensors. Recorded work can still use them. */
  [Symbol.dispose](): void {
    this.#owned[Symbol.dispose]();
    this.castRoom[Symbol.dispose]();
    this.#tensors.clear();
    this.#staging = undefined;
    this.#open = false;
  }
}
