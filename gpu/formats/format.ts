/**
 * How the numbers of a tensor are stored on the GPU, and how kernels read them.
 *
 * A format is one file in this folder and one line in the table in `formats.ts`.
 *
 * @module
 */

/** How the numbers of a tensor are stored. Formats are told apart by their names. */
export class TensorFormat {
  /**
   * @param blockElements the number of consecutive elements that are stored together
   * @param blockBytes the bytes that they take
   */
  constructor(readonly name: string, readonly blockElements: number, readonly blockBytes: number) {}

  /** The bytes of `elements` consecutive elements. */
  bytes(elements: number): number {
    return Math.ceil(elements / this.blockElements) * this.blockBytes;
  }

  /** For the keys of kernels, and for messages. */
  toJSON(): string {
    return this.name;
  }

  toString(): string {
    return this.name;
  }
}

/** How kernels read a group of consecutive numbers of a matrix, as WGSL. Rows must be multiples of a group. */
export interface Reader {
  /** The type of the buffer's elements. */
  readonly element: string;
  /** Module-scope declarations that {@link read} needs for a buffer of that name. */
  declare(buffer: string): string;
  /** Reads the group at `index`, which counts such groups: an expression. */
  read(buffer: string, index: string): string;
}

/** Reads four numbers. */
export interface FourReader extends Reader {
  /** The type of what is read. A kernel may hold it for a while before it is converted. */
  readonly value: string;
  /** Declares `unpack4(value) -> vec4f`. */
  readonly unpack4: string;
}

/** Reads eight numbers for products in f16. */
export interface EightReader extends Reader {
  readonly value: string;
  /** Numbers may be outside the range of f16, so those that are clamped are counted. */
  readonly counted?: true;
  /**
   * Declares `name(value) -> vec4u`, which converts to packed f16. Numbers that f16 cannot hold are clamped. With `note`,
   * which is WGSL that needs `noteClamped`, they are also counted.
   */
  halves(name: string, note?: string): string;
}

/** The sizes of groups that kernels read. */
export interface Readers {
  /** An f32. */
  readonly one: Reader;
  /** The bits of two f32, as a vec2u. */
  readonly pair: Reader;
  readonly four: FourReader;
  readonly eight: EightReader;
}

/** How numbers are rounded to a format of 16 bits. */
export interface Rounding {
  /**
   * Declares `half(bits: u32) -> u32`, which rounds the bits of an f32 to nearest, ties to even. It uses integers, because
   * the rounding of a GPU's own conversion is not specified, and a GPU may assume that no f32 is NaN.
   */
  readonly half: string;
  /** Whether it counts the numbers that it clamps, in the buffer `clamped` at the index `p.counter`. */
  readonly counts: boolean;
}

/** A format of matrices: kernels can multiply by tensors that have it. */
export class MatrixFormat extends TensorFormat {
  /** @param rounding where f32 can be converted to it */
  constructor(
    name: string,
    blockElements: number,
    blockBytes: number,
    readonly read: Readers,
    readonly rounding?: Rounding,
  ) {
    super(name, blockElements, blockBytes);
  }
}

/** A reader of groups that are single elements of the buffer, after `convert`. */
export const elements = (element: string, convert = (stored: string): string => stored): Reader => ({
  element,
  declare: () => "",
  read: (buffer, index) => convert(`${buffer}[${index}]`),
});
