/**
 * Formats that kernels read but do not write, such as those of quantised weights. A block can store several numbers
 * together, for example with a shared scale.
 *
 * @module
 */
import { eightFloats, unpackFloats } from "./f32.ts";
import { MatrixFormat, type Reader } from "./format.ts";

/** The description of such a format. */
export interface BlockFormat {
  readonly name: string;
  /** The number of elements of a block: 1, or a multiple of 8. Rows of matrices must be multiples of it. */
  readonly blockElements: number;
  /** The bytes of a block as it is stored; any number. */
  readonly blockBytes: number;
  /** The WGSL type of the elements of the buffer, such as `u32`. */
  readonly element: string;
  /** WGSL: the body of a function that returns the numbers 4·i to 4·i + 3 of a buffer as a vec4f. `i` is a u32. */
  four(buffer: string): string;
}

/** Makes all readers of a format from one. */
export function blockFormat({ name, blockElements, blockBytes, element, four }: BlockFormat): MatrixFormat {
  const at = (buffer: string, index: string) => `${buffer}_four(${index})`;
  const reader = (read: Reader["read"]): Reader => ({
    element,
    declare: (buffer) =>
      `fn ${buffer}_four(i: u32) -> vec4f {
${four(buffer)}
}
`,
    read,
  });
  return new MatrixFormat(name, blockElements, blockBytes, {
    one: reader((buffer, i) => `${at(buffer, `${i} / 4u`)}[${i} % 4u]`),
    pair: reader((buffer, i) => {
      const found = at(buffer, `${i} / 2u`);
      return `bitcast<vec2u>(select(${found}.xy, ${found}.zw, ${i} % 2u == 1u))`;
    }),
    four: { ...reader(at), ...unpackFloats },
    eight: {
      ...reader((buffer, i) => `mat2x4f(${at(buffer, `2u * (${i})`)}, ${at(buffer, `2u * (${i}) + 1u`)})`),
      ...eightFloats,
    },
  });
}
