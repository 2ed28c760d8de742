/**
 * A GPU buffer with a shape and a number format.
 *
 * @module
 */

/** Number formats on the GPU. `bf16` and `f16` lie packed, two in 32 bits, the first in the low half. */
export type GpuDtype = "f32" | "bf16" | "f16" | "u32";

const BITS: Readonly<Record<GpuDtype, number>> = { f32: 32, bf16: 16, f16: 16, u32: 32 };

/** Numbers in a shape. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((n, d) => n * d, 1);
}

/** Bytes that a tensor takes, rounded up to whole 32-bit words. */
export function bytesOf(shape: readonly number[], dtype: GpuDtype): number {
  return Math.ceil(sizeOf(shape) * BITS[dtype] / 32) * 4;
}

/** A row-major tensor in GPU memory. Made by {@link import("./gpu.ts").Gpu}, freed by its scope or by `release`. */
export class Tensor {
  constructor(
    readonly buffer: GPUBuffer,
    /** Byte offset of the first number in `buffer`. */
    readonly offset: number,
    readonly shape: readonly number[],
    readonly dtype: GpuDtype,
  ) {}

  /** Numbers in the tensor. */
  get size(): number {
    return sizeOf(this.shape);
  }

  /** Bytes it takes. */
  get bytes(): number {
    return bytesOf(this.shape, this.dtype);
  }

  /** Length of axis `i`; negative counts from the end. */
  dim(i: number): number {
    const d = this.shape.at(i);
    if (d === undefined) throw new Error(`tensor of shape [${this.shape}] has no axis ${i}`);
    return d;
  }

  /** The same numbers under another shape. */
  reshape(shape: readonly number[]): Tensor {
    if (sizeOf(shape) !== this.size) throw new Error(`cannot view [${this.shape}] as [${shape}]`);
    return new Tensor(this.buffer, this.offset, shape, this.dtype);
  }

  /**
   * `count` rows of the first axis from `start`, without a copy.
   * The first number must lie on a 256-byte boundary, as WebGPU asks of bindings.
   */
  rows(start: number, count: number): Tensor {
    const rows = this.slice(start, count);
    if (rows.offset % 256 !== 0) {
      throw new Error(`rows ${start}..${start + count} of [${this.shape}] ${this.dtype} cannot be bound`);
    }
    return rows;
  }

  /** As {@link rows}, from anywhere: to copy from or to, not to bind. */
  slice(start: number, count: number): Tensor {
    if (start + count > this.dim(0)) throw new Error(`[${this.shape}] has no rows ${start}..${start + count}`);
    const rowBytes = sizeOf(this.shape.slice(1)) * BITS[this.dtype] / 8;
    return new Tensor(this.buffer, this.offset + start * rowBytes, [count, ...this.shape.slice(1)], this.dtype);
  }
}
