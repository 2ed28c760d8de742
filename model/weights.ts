/**
 * Uploads weights from a model's files to the GPU.
 *
 * @module
 */
import { f32 } from "../gpu/formats/f32.ts";
import type { TensorFormat } from "../gpu/formats/format.ts";
import type { Gpu } from "../gpu/gpu.ts";
import { castInto } from "../gpu/ops/cast.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { TensorOwner } from "../gpu/tensor_owner.ts";
import { CastRoom } from "./cast_room.ts";
import { expectTensor, toFloat32 } from "./checkpoint/safetensors.ts";
import type { TensorInfo, TensorSource } from "./checkpoint/tensor_source.ts";
import { matrixFormat, type WeightDtypeChoice } from "./weight_dtype.ts";
import type { WeightSlot } from "./weight_slot.ts";

/** The bytes that are read and uploaded at once, or {@link PIECE_ROWS} rows if these are more. */
const PIECE_BYTES = 32 * 2 ** 20;

/** Tensors are uploaded in pieces of multiples of so many rows. Then each piece can be bound, whatever its format. */
const PIECE_ROWS = 256;

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
}

/**
 * Uploads tensors by name, checks them on the way, and owns them.
 *
 * ```ts
 * using weights = new Weights(gpu, source);
 * const q = await weights.scope("blocks.0.").matrix("attn1.to_q.weight", [dim, dim]);
 * ```
 */
export class Weights implements Disposable {
  /** The prefix of this scope in the one that all were made from. */
  #scope = "";
  #castRoom: CastRoom;
  /** Disposed of with this one. */
  readonly #parts = new DisposableStack();
  readonly #owned: TensorOwner;

  constructor(
    private readonly gpu: Gpu,
    private readonly source: TensorSource,
    private readonly options: WeightsOptions = {},
  ) {
    this.#owned = this.#parts.use(new TensorOwner(gpu));
    this.#castRoom = options.slot?.castRoom ?? this.#parts.use(new CastRoom(gpu));
  }

  /** The prefix of the names in the files. */
  get prefix(): string {
    return (this.options.prefix ?? "") + this.#scope;
  }

  /** The tensors whose names start with `prefix`. They are named without it. */
  scope(prefix: string): Weights {
    const scope = this.#parts.use(new Weights(this.gpu, this.source, this.options));
    scope.#scope = this.#scope + prefix;
    scope.#castRoom = this.#castRoom;
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
    const stored = matrixFormat(gpu, info.dtype, "stored"), held = matrixFormat(gpu, info.dtype, dtype, exact);
    const tensor = this.#tensor(name, shape, held);
    if (stored === held) {
      await this.#upload(info, (piece, row) => gpu.write(tensor, piece, held.bytes(row * tensor.rowSize)));
    } else {
      const place = gpu.clampPlace(`the weight "${info.name}"`);
      await this.#upload(info, (piece, row, count) => {
        const to = tensor.rows(row, count), from = this.#castRoom.take(to.shape, stored);
        gpu.write(from, piece, 0);
        castInto(gpu, from, to, place);
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
    const tensor = this.#tensor(name, shape, f32);
    await this.#upload(
      info,
      (piece, row) => this.gpu.write(tensor, toFloat32(piece, info.dtype), f32.bytes(row * tensor.rowSize)),
    );
    return tensor;
  }

  /** Frees memory that only loading needs. More can be loaded after it. */
  settle(): void {
    this.#castRoom[Symbol.dispose]();
  }

  /** Frees all tensors that were uploaded here and in its scopes. Recorded work can still use them. */
  [Symbol.dispose](): void {
    this.#parts[Symbol.dispose]();
  }

  /** Calls `take` with one stored piece after the other: so many rows of the first axis, from `row` on. */
  async #upload(
    { name, shape, bytes }: TensorInfo,
    take: (piece: Uint8Array<ArrayBuffer>, row: number, rows: number) => void,
  ): Promise<void> {
    const { source, options: { slot, onUpload } } = this;
    const rows = shape[0] ?? 1, rowBytes = bytes / rows;
    const step = Math.max(1, Math.floor(PIECE_BYTES / rowBytes / PIECE_ROWS)) * PIECE_ROWS;
    for (let row = 0; row < rows; row += step) {
      const count = Math.min(step, rows - row), length = count * rowBytes;
      const piece = await source.readRange(name, row * rowBytes, length, slot?.staging(length));
      slot?.assertOpen();
      take(piece, row, count);
    }
    onUpload?.(bytes);
  }

  #tensor(name: string, shape: readonly number[], format: TensorFormat): Tensor {
    const what = `the weight "${this.prefix}${name}"`;
    const { slot } = this.options;
    if (slot) return slot.tensor(this.#scope + name, shape, format, what);
    return this.#owned.adopt(this.gpu.weight(shape, format, what));
  }
}
