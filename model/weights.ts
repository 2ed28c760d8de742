/**
 * Weights on their way from a model's files to the GPU.
 *
 * @module
 */
import type { Gpu } from "../gpu/gpu.ts";
import type { GpuDtype, Tensor } from "../gpu/tensor.ts";
import { type Dtype, expectTensor, toFloat32 } from "./checkpoint/safetensors.ts";
import type { TensorSource } from "./checkpoint/tensor_source.ts";

/** Tensors are read and uploaded in pieces of at most so many bytes; a multiple of every format's size. */
const SLICE_BYTES = 32 * 2 ** 20;

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
  ) {}

  /** The tensors whose names start with `prefix`, under the rest of their names. */
  scope(prefix: string): Weights {
    const scope = new Weights(this.gpu, this.source, this.onUpload, this.prefix + prefix);
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
    const tensor = this.#tensor(shape, GPU_DTYPES[info.dtype]!, info.name);
    for (let at = 0; at < info.bytes; at += SLICE_BYTES) {
      const length = Math.min(SLICE_BYTES, info.bytes - at);
      this.gpu.write(tensor, await this.source.readRange(info.name, at, length), at);
    }
    this.onUpload(info.bytes);
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
    const tensor = this.#tensor(shape, "f32", info.name);
    const widening = tensor.bytes / info.bytes;
    for (let at = 0; at < info.bytes; at += SLICE_BYTES) {
      const stored = await this.source.readRange(info.name, at, Math.min(SLICE_BYTES, info.bytes - at));
      this.gpu.write(tensor, toFloat32(stored, info.dtype), at * widening);
    }
    this.onUpload(info.bytes);
    return tensor;
  }

  /** Frees all tensors uploaded so far, here and in scopes of it. Work already recorded still runs on them. */
  release(): void {
    for (const tensor of this.#tensors.splice(0)) this.gpu.release(tensor);
    for (const scope of this.#scopes.splice(0)) scope.release();
  }

  #tensor(shape: readonly number[], dtype: GpuDtype, name: string): Tensor {
    const tensor = this.gpu.tensor(shape, dtype, `the weight "${name}"`);
    this.#tensors.push(tensor);
    return tensor;
  }
}
