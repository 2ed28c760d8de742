/**
 * Uploads weights from a model's files to the GPU.
 *
 * @module
 */
import type { Gpu } from "../gpu/gpu.ts";
import { castInto } from "../gpu/ops/cast.ts";
import { bytesOf, type GpuDtype, Tensor } from "../gpu/tensor.ts";
import { bytesPerElement } from "./checkpoint/dtype.ts";
import { CastRoom } from "./cast_room.ts";
import { expectTensor, toFloat32 } from "./checkpoint/safetensors.ts";
import type { TensorInfo, TensorSource } from "./checkpoint/tensor_source.ts";
import { matrixDtype, type WeightDtypeChoice } from "./weight_dtype.ts";
import type { WeightSlot } from "./weight_slot.ts";

/** The largest piece in which tensors are read and uploaded, in bytes. It is a multiple of every format's size. */
export const SLICE_BYTES = 32 * 2 ** 20;

/** Called for each tensor that has been uploaded, with its size in the file. */
export type OnUpload = (bytes: number) => void;

/** Options of {@link Weights}. */
export interface WeightsOptions {
  readonly onUpload?: OnUpload | undefined;
  /** Default: "auto". */
  readonly dtype?: WeightDtypeChoice | undefined;
  /** The prefix of the names in the files. */
  readonly prefix?: string;
  /** Owns the tensors that weights are written to. Without it, each upload makes a new tensor. */
  readonly slot?: WeightSlot | undefined;
  /** Default: a room of its own, or the slot's. */
  readonly castRoom?: CastRoom | undefined;
}

/**
 * Uploads tensors by name, checks them on the way, and remembers them so that they can be freed together.
 *
 * ```ts
 * const block = weights.scope("blocks.0.");
 * const q = await block.matrix("attn1.to_q.weight", [dim, dim]);
 * block.release(); // frees q
 * ```
 */
export class Weights {
  #tensors: Tensor[] = [];
  #scopes: Weights[] = [];
  readonly #castRoom: CastRoom;

  constructor(
    private readonly gpu: Gpu,
    private readonly source: TensorSource,
    private readonly options: WeightsOptions = {},
  ) {
    this.#castRoom = options.castRoom ?? options.slot?.castRoom ?? new CastRoom(gpu);
  }

  /** The prefix of the names in the files. */
  get prefix(): string {
    return this.options.prefix ?? "";
  }

  /** The tensors whose names start with `prefix`. They are named without it. */
  scope(prefix: string): Weights {
    const { gpu, source, options } = this;
    const slot = options.slot?.scope(prefix);
    const scope = new Weights(gpu, source, {
      ...options,
      prefix: this.prefix + prefix,
      slot,
      castRoom: this.#castRoom,
    });
    this.#scopes.push(scope);
    return scope;
  }

  /** Whether there is a tensor of that name. */
  has(name: string): boolean {
    return this.source.has(this.prefix + name);
  }

  /**
   * Uploads a weight for `linear`, and casts it if that was chosen; see {@link WeightDtypeChoice}.
   *
   * @param exact whether its products hold their operands in f32 whatever the device's precision is
   * @returns `shape`; f32, or bf16 or f16 packed two in 32 bits
   * @throws {TilereelError} if it is missing, has another shape or format, cannot be read, or does not fit the GPU
   */
  async matrix(name: string, shape: readonly number[], { exact = false } = {}): Promise<Tensor> {
    const { gpu, options: { dtype = "auto" } } = this;
    const info = expectTensor(this.source, this.prefix + name, shape);
    const stored = matrixDtype(gpu, info.dtype, "stored"), held = matrixDtype(gpu, info.dtype, dtype, exact);
    const tensor = this.#tensor(name, shape, held);
    if (stored === held) {
      await this.#upload(info, (bytes, at) => gpu.write(tensor, bytes, at));
    } else {
      const place = gpu.clampPlace(`the weight "${info.name}"`), width = bytesPerElement(info.dtype);
      await this.#upload(info, (bytes, at) => {
        const count = bytes.length / width, from = this.#castRoom.take(count, stored);
        gpu.write(from, bytes, 0);
        castInto(gpu, from, new Tensor(tensor.buffer, bytesOf([at / width], held), [count], held), place);
      });
    }
    return tensor;
  }

  /**
   * Uploads a tensor converted to f32: weights of norms, biases, small tables.
   *
   * @returns `shape`, f32
   * @throws {TilereelError} as in {@link matrix}
   */
  async vector(name: string, shape: readonly number[]): Promise<Tensor> {
    const info = expectTensor(this.source, this.prefix + name, shape);
    const tensor = this.#tensor(name, shape, "f32");
    const width = bytesPerElement(info.dtype);
    await this.#upload(
      info,
      (bytes, at) => this.gpu.write(tensor, toFloat32(bytes, info.dtype), bytesOf([at / width], "f32")),
    );
    return tensor;
  }

  /** Frees memory that only loading needs. More can be loaded after it. */
  settle(): void {
    if (!this.options.castRoom) this.#castRoom.release();
  }

  /** Frees all tensors that were uploaded here and in its scopes. Recorded work can still use them. */
  release(): void {
    this.settle();
    for (const tensor of this.#tensors.splice(0)) this.gpu.release(tensor);
    for (const scope of this.#scopes.splice(0)) scope.release();
  }

  /** Calls `take` with one stored piece after the other, each with its offset in bytes. */
  async #upload(
    { name, bytes }: TensorInfo,
    take: (stored: Uint8Array<ArrayBuffer>, at: number) => void,
  ): Promise<void> {
    const { source, options: { slot, onUpload } } = this;
    for (let at = 0; at < bytes; at += SLICE_BYTES) {
      const stored = await source.readRange(name, at, Math.min(SLICE_BYTES, bytes - at), slot?.staging);
      slot?.assertOpen();
      take(stored, at);
    }
    onUpload?.(bytes);
  }

  #tensor(name: string, shape: readonly number[], dtype: GpuDtype): Tensor {
    const what = `the weight "${this.prefix}${name}"`;
    const { slot } = this.options;
    if (slot) return slot.tensor(name, shape, dtype, what);
    const tensor = this.gpu.weight(shape, dtype, what);
    this.#tensors.push(tensor);
    return tensor;
  }
}
