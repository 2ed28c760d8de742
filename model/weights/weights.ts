import { f32 } from "../../gpu/formats/f32.ts";
import type { MatrixFormat } from "../../gpu/formats/format.ts";
import { i8 } from "../../gpu/formats/i8.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { canCastTo, castInto, castToInt8 } from "../../gpu/ops/cast.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { type Dtype, FLOAT_DTYPES, MATRIX_DTYPES, toFloat32, WEIGHT_FORMATS } from "../checkpoint/dtype.ts";
import {
  blankSource,
  expectTensor,
  readScale,
  type TensorInfo,
  type TensorSource,
} from "../checkpoint/tensor_source.ts";
import { CastRoom } from "./cast_room.ts";
import { adjustedFormat, hasScales, matrixFormat } from "./weight_dtype.ts";
import type { WeightOptions } from "./weight_options.ts";
import { SCALE, type WeightSlot } from "./weight_slot.ts";

/** The bytes that are read and uploaded at once, or {@link PIECE_ROWS} rows if these are more. */
const PIECE_BYTES = 32 * 2 ** 20;

/** Tensors are uploaded in pieces of multiples of so many rows. Then each piece can be bound, whatever its format. */
const PIECE_ROWS = 256;

/** The formats in which matrices or vectors may be stored. */
const LOADED_DTYPES = [...new Set([...MATRIX_DTYPES, ...FLOAT_DTYPES])];

/** A matrix as products take it. */
export interface Matrix {
  /** [out, in], or of another shape whose first axis is `out` */
  readonly weight: Tensor;
  /** [out], f32: the factors of the weight's rows. Quantised weights may have it. */
  readonly scale?: Tensor;
  /**
   * Frees the weight: another tensor with the same numbers takes its place, and is owned as it was. Not where weights
   * are written to a slot again and again.
   */
  readonly replace?: ((by: Tensor) => void) | undefined;
}

/** Called for each tensor that has been uploaded, with its size in the file; not where a slot is overwritten. */
export type OnUpload = (bytes: number) => void;

/** Options of {@link Weights}. */
export interface WeightsOptions extends WeightOptions {
  readonly onUpload?: OnUpload | undefined;
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
  /** The prefix of the names in the files. */
  #prefix = "";
  /** Owns the tensors that weights are written to, by the part of their names after `base`. */
  #slot: { readonly slot: WeightSlot; readonly base: string } | undefined;
  /** That of the weights that all scopes were made from, or of the slot. */
  #castRoom: CastRoom;
  readonly #ownCastRoom: CastRoom;
  readonly #owned: TensorOwner;
  readonly #scopes = new Set<Weights>();
  readonly #source: TensorSource;
  #parent: Weights | undefined;

  constructor(
    private readonly gpu: Gpu,
    source: TensorSource,
    private readonly options: WeightsOptions = {},
  ) {
    this.#source = gpu.settings.dry ? blankSource(source) : source;
    this.#owned = new TensorOwner(gpu);
    this.#castRoom = this.#ownCastRoom = new CastRoom(gpu);
  }

  /** The tensors whose names start with `prefix`. They are named without it. */
  scope(prefix: string): Weights {
    const scope = this.#named(prefix);
    scope.#parent = this;
    this.#scopes.add(scope);
    return scope;
  }

  /** As {@link scope}, for tensors that are written to a slot, which owns them. */
  inSlot(prefix: string, slot: WeightSlot): Weights {
    const scope = this.#named(prefix);
    scope.#slot = { slot, base: scope.#prefix };
    scope.#castRoom = slot.castRoom;
    return scope;
  }

  /**
   * Checks a tensor before it is loaded.
   *
   * @param dtypes that it may be stored in. Default: those of matrices and of vectors
   * @throws {TilereelError} if it is missing, or has another shape or format
   */
  expect(name: string, shape: readonly number[], dtypes: readonly Dtype[] = LOADED_DTYPES): TensorInfo {
    return expectTensor(this.#source, this.#prefix + name, shape, dtypes);
  }

  /**
   * Uploads a weight for `linear`. It is cast if that was chosen or something is added to it; see {@link WeightOptions}.
   *
   * @param exact whether its products hold their operands in f32 whatever the device's precision is
   * @returns its weight of `shape`, in its format on the GPU
   * @throws {TilereelError} if it is missing, has another shape or format, cannot be read, or does not fit the GPU
   */
  async matrix(name: string, shape: readonly number[], { exact = false } = {}): Promise<Matrix> {
    const { gpu, options: { dtype = "auto", quantised = () => false } } = this;
    const info = this.expect(name, shape, MATRIX_DTYPES), use = { exact, quantised: quantised(info.name) };
    const stored = matrixFormat(gpu, info.dtype, "stored"), held = matrixFormat(gpu, info.dtype, dtype, use);
    return await this.#load(name, info, stored, held, exact);
  }

  /**
   * Uploads a tensor converted to f32: weights of norms, biases, small tables.
   *
   * @returns `shape`, f32
   * @throws {TilereelError} as in {@link matrix}
   */
  async vector(name: string, shape: readonly number[]): Promise<Tensor> {
    return (await this.#load(name, this.expect(name, shape, FLOAT_DTYPES), f32, f32)).weight;
  }

  /** Frees memory that only loading needs. More can be loaded after it. */
  settle(): void {
    this.#castRoom[Symbol.dispose]();
  }

  /** Frees all tensors that were uploaded here and in its scopes. Recorded work can still use them. */
  [Symbol.dispose](): void {
    for (const scope of this.#scopes) scope[Symbol.dispose]();
    if (this.#parent) this.#parent.#scopes.delete(this);
    this.#owned[Symbol.dispose]();
    this.#ownCastRoom[Symbol.dispose]();
  }

  #named(prefix: string): Weights {
    const scope = new Weights(this.gpu, this.#source, this.options);
    scope.#prefix = this.#prefix + prefix;
    scope.#slot = this.#slot;
    scope.#castRoom = this.#castRoom;
    return scope;
  }

  /**
   * Uploads a tensor, with what is added to it. It is multiplied by its scale, unless it is held as it is stored. In int8,
   * it gets scales of its own.
   *
   * @param from the format in which it is uploaded: as it is stored, or f32
   * @param to the format in which it is held if nothing is added
   */
  async #load(name: string, info: TensorInfo, from: MatrixFormat, to: MatrixFormat, exact = false): Promise<Matrix> {
    const { gpu, options: { adjust } } = this, delta = adjust?.of(info.name, info.shape);
    const held = delta ? adjustedFormat(to, exact) : to, tensor = this.#tensor(name, info.shape, held);
    const scale = await readScale(this.#source, info), isStored = from === held && !delta;
    const beside = hasScales(held, scale !== undefined) && this.#tensor(name + SCALE, [info.shape[0]!], f32);
    const numbers = (piece: Uint8Array<ArrayBuffer>) =>
      from === WEIGHT_FORMATS[info.dtype] ? piece : toFloat32(piece, info.dtype);
    if (isStored && !(scale && canCastTo(held))) {
      await this.#upload(info, (piece, row) => gpu.write(tensor, numbers(piece), held.bytes(row * tensor.rowSize)));
    } else {
      const place = gpu.clampCounter(`the weight "${info.name}"`);
      await this.#upload(info, (piece, row, count) => {
        const part = tensor.rows(row, count), room = this.#castRoom.take(part.shape, from);
        gpu.write(room, numbers(piece), 0);
        gpu.scope(() => {
          const more = {
            scale: scale && gpu.upload(scale.subarray(row, row + count), [count]),
            added: delta?.rows(row, count),
          };
          if (held === i8 && beside) castToInt8(gpu, room, part, beside.rows(row, count), more);
          else castInto(gpu, room, part, place, more);
        });
      });
    }
    const matrix = { weight: tensor, replace: this.#replacing(tensor) };
    if (!beside) return matrix;
    // Numbers that were cast to int8 have scales of their own.
    if (scale && (isStored || held !== i8)) gpu.write(beside, scale, 0);
    return { ...matrix, scale: beside };
  }

  /** Calls `take` with one stored piece after the other: so many rows of the first axis, from `row` on. */
  async #upload(
    { name, shape, bytes }: TensorInfo,
    take: (piece: Uint8Array<ArrayBuffer>, row: number, rows: number) => void,
  ): Promise<void> {
    const { options: { onUpload } } = this, source = this.#source, slot = this.#slot?.slot;
    const rows = shape[0] ?? 1, rowBytes = bytes / rows;
    const step = Math.max(1, Math.floor(PIECE_BYTES / rowBytes / PIECE_ROWS)) * PIECE_ROWS;
    for (let row = 0; row < rows; row += step) {
      const count = Math.min(step, rows - row), length = count * rowBytes;
      const piece = await source.readRange(name, row * rowBytes, length, slot?.staging(length));
      slot?.assertOpen();
      take(piece, row, count);
    }
    if (!slot) onUpload?.(bytes);
  }

  /** See {@link Matrix.replace}. */
  #replacing(tensor: Tensor): Matrix["replace"] {
    if (this.#slot) return undefined;
    let held = tensor;
    return (by) => {
      this.#owned.adopt(by);
      this.#owned.free(held);
      held = by;
    };
  }

  #tensor(name: string, shape: readonly number[], format: MatrixFormat): Tensor {
    const whole = this.#prefix + name, what = `the weight "${whole}"`;
    if (this.#slot) return this.#slot.slot.tensor(whole.slice(this.#slot.base.length), shape, format, what);
    return this.#owned.adopt(this.gpu.weight(shape, format, what));
  }
}
