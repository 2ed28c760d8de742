/**
 * Memory on the GPU for one block of a model at a time.
 *
 * @module
 */
import type { Gpu } from "../gpu/gpu.ts";
import { bytesOf, type GpuDtype, Tensor } from "../gpu/tensor.ts";
import { CastRoom } from "./cast_room.ts";
import { SLICE_BYTES } from "./weights.ts";

/** What a slot and its scopes share. */
interface Room {
  /** The tensors, by their names in a block. */
  readonly tensors: Map<string, Tensor>;
  readonly castRoom: CastRoom;
  /** The bytes that are being uploaded from the file, one upload at a time. */
  staging: Uint8Array<ArrayBuffer> | undefined;
  open: boolean;
}

/** Memory for one block's weights. The first block allocates the tensors; later blocks overwrite them. */
export class WeightSlot {
  constructor(
    private readonly gpu: Gpu,
    private readonly prefix = "",
    private readonly room: Room = {
      tensors: new Map(),
      castRoom: new CastRoom(gpu),
      staging: undefined,
      open: true,
    },
  ) {}

  /** The part of the slot for names that start with `prefix`. */
  scope(prefix: string): WeightSlot {
    return new WeightSlot(this.gpu, this.prefix + prefix, this.room);
  }

  /** A buffer between file and GPU, which is reused so that streaming blocks makes no garbage. */
  get staging(): Uint8Array<ArrayBuffer> {
    return this.room.staging ??= new Uint8Array(SLICE_BYTES);
  }

  /** Memory for weights that are to be cast. */
  get castRoom(): CastRoom {
    return this.room.castRoom;
  }

  /** The names and shapes of its tensors. */
  get layout(): { readonly name: string; readonly shape: readonly number[] }[] {
    return [...this.room.tensors].map(([name, { shape }]) => ({ name, shape }));
  }

  /** The tensor of that name. A new one is made if there is none yet, or if a block has it in a wider format. */
  tensor(name: string, shape: readonly number[], dtype: GpuDtype, what: string): Tensor {
    const { gpu, room: { tensors } } = this;
    this.assertOpen();
    const key = this.prefix + name;
    const before = tensors.get(key);
    if (before && before.buffer.size >= bytesOf(shape, dtype)) return new Tensor(before.buffer, 0, shape, dtype);
    if (before) gpu.release(before);
    tensors.delete(key);
    const tensor = gpu.weight(shape, dtype, what);
    tensors.set(key, tensor);
    return tensor;
  }

  /** @throws {Error} after it was released, which ends an upload that was still running */
  assertOpen(): void {
    if (!this.room.open) throw new Error("the slot was released");
  }

  /** Frees its tensors. Recorded work can still use them. */
  release(): void {
    for (const tensor of this.room.tensors.values()) this.gpu.release(tensor);
    this.room.tensors.clear();
    this.room.castRoom.release();
    this.room.staging = undefined;
    this.room.open = false;
  }
}
