/**
 * Weights on their way from a model's files to the GPU.
 *
 * @module
 */
import type { Gpu } from "../gpu/gpu.ts";
import type { GpuDtype, Tensor } from "../gpu/tensor.ts";
import { type Dtype, expectTensor, toFloat32 } from "./checkpoint/safetensors.ts";
import type { TensorInfo, TensorSource } from "./checkpoint/tensor_source.ts";
import type { WeightSlot } from "./weight_slot.ts";

/** Tensors are read and uploaded in pieces of at most so many bytes; a multiple of every format's size. */
export const SLICE_BYTES = 32 * 2 ** 20;

/** How the GPU holds a matrix that is stored so. */
const GPU_DTYPES: Partial<Record<Dtype, GpuDtype>> = { F32: "f32", F16: "f16", BF16: "bf16" };

/** Told of each tensor that has been uploaded, with its size in the file. */
export type OnUpload = (bytes: number) => void;

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

  constructor(
    private readonly gpu: Gpu,
    private readonly source: TensorSource,
    private readonly onUpload: OnUpload = () => {},
    /** What names start with in the files. */
    readonly prefix: string = "",
    /** Has the tensors that are written to, and keeps them; without, each upload makes one. */
    private readonly slot?: WeightSlot,
  ) {}

  /** The tensors whose names start with `prefix`, under the rest of their names. */
  scope(prefix: string): Weights {
    const { gpu, source, onUpload, slot } = this;
    const scope = new Weights(gpu, source, onUpload, this.prefix + prefix, slot?.scope(prefix));
    this.#scopes.push(scope);
    return scope;
  }

  /** Whether there is a tensor of that name. */
  has(name: string): boolean {
    return this.source.has(this.prefix + name);
  }

  /**
   * Uploads a tensor in the format it is stored in: what `linear` takes as its weight.
   *
   * @returns `shape`; f32, or bf16 or f16 packed two in 32 bits
   * @throws {TilereelError} if it is missing, has another shape or format, cannot be read, or does not fit the GPU
   */
  async matrix(name: string, shape: readonly number[]): Promise<Tensor> {
    const info = expectTensor(this.source, this.prefix + name, shape);
    const tensor = this.#tensor(name, shape, GPU_DTYPES[info.dtype]!);
    await this.#upload(info, tensor, (stored) => stored);
    return tensor;
  }

  /**
   * Uploads a tensor widened to f32: norms' weights, biases, small tables.
   *
   * @returns `shape`, f32
   * @throws {TilereelError} as {@link matrix}
   */
  async vector(name: string, shape: readonly number[]): Promise<Tensor> {
    const info = expectTensor(this.source, this.prefix + name, shape);
    const tensor = this.#tensor(name, shape, "f32");
    await this.#upload(info, tensor, (stored) => toFloat32(stored, info.dtype));
    return tensor;
  }

  /** Frees all tensors uploaded so far, here and in scopes of it. Work already recorded still runs on them. */
  release(): void {
    for (const tensor of this.#tensors.splice(0)) this.gpu.release(tensor);
    for (const scope of this.#scopes.splice(0)) scope.release();
  }

  async #upload(
    { name, bytes }: TensorInfo,
    tensor: Tensor,
    convert: (stored: Uint8Array<ArrayBuffer>) => Uint8Array | Float32Array,
  ): Promise<void> {
    const { gpu, source, slot } = this;
    let written = 0;
    for (let at = 0; at < bytes; at += SLICE_BYTES) {
      const stored = await source.readRange(name, at, Math.min(SLICE_BYTES, bytes - at), slot?.staging);
      slot?.assertOpen();
      const data = convert(stored);
      gpu.write(tensor, data, written);
      written += data.byteLength;
    }
    this.onUpload(bytes);
  }

  #tensor(name: string, shape: readonly number[], dtype: GpuDtype): Tensor {
    const what = `the weight "${this.prefix}${name}"`;
    if (this.slot) return this.slot.tensor(name, shape, dtype, what);
    const tensor = this.gpu.tensor(shape, dtype, what);
    this.#tensors.push(tensor);
    return tensor;
  }
}
