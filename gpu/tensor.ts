import { MatrixFormat, type TensorFormat } from "./formats/format.ts";

/** The number of elements of a shape. */
export function sizeOf(shape: readonly number[]): number {
  // Each dispatch asks for some: a loop takes half the time of a reduction.
  let size = 1;
  for (let axis = 0; axis < shape.length; axis++) size *= shape[axis]!;
  return size;
}

/** The bytes of a tensor, rounded up to whole 32-bit words. */
export function bytesOf(shape: readonly number[], format: TensorFormat): number {
  return Math.ceil(format.bytes(sizeOf(shape)) / 4) * 4;
}

/**
 * A row-major tensor in GPU memory: a buffer with a shape and a number format. {@link import("./gpu.ts").Gpu} makes it;
 * its scope or `release` frees it.
 */
export class Tensor {
  constructor(
    readonly buffer: GPUBuffer,
    /** The byte offset of the first number in `buffer`. */
    readonly offset: number,
    readonly shape: readonly number[],
    readonly format: TensorFormat,
  ) {}

  /** The number of elements. */
  get size(): number {
    return sizeOf(this.shape);
  }

  /** The size in bytes. */
  get bytes(): number {
    return bytesOf(this.shape, this.format);
  }

  /** The number of elements of a row: of all axes but the first. */
  get rowSize(): number {
    return sizeOf(this.shape.slice(1));
  }

  /** Its format, if kernels can multiply by it. */
  get matrixFormat(): MatrixFormat {
    if (this.format instanceof MatrixFormat) return this.format;
    throw new Error(`[${this.shape}] ${this.format} is no matrix`);
  }

  /** The length of axis `i`. Negative numbers count from the end. */
  dim(i: number): number {
    const d = this.shape.at(i);
    if (d === undefined) throw new Error(`tensor of shape [${this.shape}] has no axis ${i}`);
    return d;
  }

  /** The same numbers under another shape. */
  reshape(shape: readonly number[]): Tensor {
    if (sizeOf(shape) !== this.size) throw new Error(`cannot view [${this.shape}] as [${shape}]`);
    return new Tensor(this.buffer, this.offset, shape, this.format);
  }

  /**
   * `count` rows of the first axis from `start`, without a copy.
   * The first number must lie on a 256-byte boundary, as WebGPU asks of bindings.
   */
  rows(start: number, count: number): Tensor {
    const rows = this.slice(start, count);
    if (rows.offset % 256 !== 0) {
      throw new Error(`rows ${start}..${start + count} of [${this.shape}] ${this.format} cannot be bound`);
    }
    return rows;
  }

  /** As {@link rows}, from any row. The result can be copied from or to, but not bound. */
  slice(start: number, count: number): Tensor {
    if (start + count > this.dim(0)) throw new Error(`[${this.shape}] has no rows ${start}..${start + count}`);
    const skipped = this.format.bytes(start * this.rowSize);
    return new Tensor(this.buffer, this.offset + skipped, [count, ...this.shape.slice(1)], this.format);
  }
}

/** Whether two tensors begin at the same number of one buffer. */
export const isSamePlace = (a: Tensor, b: Tensor): boolean => a.buffer === b.buffer && a.offset === b.offset;
