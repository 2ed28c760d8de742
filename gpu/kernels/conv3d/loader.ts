import { unroll } from "../../kernel.ts";
import type { OperandLoader, RowsLoaderOptions } from "../product/product.ts";
import { type Conv3dShape, inputFrame } from "./shape.ts";

/**
 * Loads the operands of a convolution, as a matrix product whose rows are output pixels. The inner axis runs over the
 * taps, and for each tap over the input channels. The elements that are staged at once belong to one tap. Pixels and
 * channels past the end repeat the last one.
 */
export function conv3dLoader(
  { stride, up, replicate, depth, length, x, w }: Conv3dShape & RowsLoaderOptions,
): OperandLoader {
  const place = (at: string) => `min(first + ${at}, ${length} - 1u)`;
  const column = (i: number) => `(left${i} + dx) >> ${up - 1}u`, row = (i: number) => `(top${i} + dy) >> ${up - 1}u`;
  const position = (i: number) =>
    replicate
      ? `let u = clamp(${column(i)}, 0, i32(p.width_in) - 1); let v = clamp(${row(i)}, 0, i32(p.height_in) - 1);
        inside${i} = true;`
      : `let u = ${column(i)}; let v = ${row(i)};
        inside${i} = u32(u) < p.width_in && u32(v) < p.height_in;`;
  // The input position of each of the thread's pixels, for this tap.
  const locate = (pixels: number) =>
    `{
      let dx = i32(tap % p.kernel_w);
      let dy = i32((tap / p.kernel_w) % p.kernel_h);
      let dt = tap / (p.kernel_w * p.kernel_h);
${
      unroll(pixels, (i) =>
        `      { ${position(i)}
        let pixel = (${inputFrame(replicate, `frame${i} + dt`)} * p.height_in + u32(v)) * p.width_in + u32(u);
        at${i} = select(0u, pixel * ${length}, inside${i}); }`)
    }
    }`;
  const taps = "p.kernel_t * p.kernel_h * p.kernel_w";
  return {
    begin: (xRows, wRows) =>
      `  var first = 0u;
  var tap = 0u;
${
        unroll(xRows.length, (i) =>
          `  let pixel${i} = min(m0 + ${xRows[i]}, p.frames * p.height * p.width - 1u);
  let left${i} = i32(pixel${i} % p.width) * ${stride} - p.pad;
  let top${i} = i32((pixel${i} / p.width) % p.height) * ${stride} - p.pad;
  let frame${i} = pixel${i} / (p.width * p.height) * p.stride_t;
  var inside${i}: bool;
  var at${i}: u32;`)
      }
${unroll(wRows.length, (i) => `  let w_row${i} = min(n0 + ${wRows[i]}, p.channels - 1u) * ${taps} * ${length};`)}
    ${locate(xRows.length)}`,
    steps: `${taps} * ((${length} + ${depth - 1}u) / ${depth}u)`,
    next: (xRows) =>
      `    first += ${depth}u;
    if (first >= ${length}) {
      first = 0u;
      tap = min(tap + 1u, ${taps} - 1u);
      ${locate(xRows)}
    }`,
    x: (i) => x(`at${i} + ${place("x_at")}`),
    inside: (i) => `inside${i} && first + x_at < ${length}`,
    w: (i) => w(`w_row${i} + tap * ${length} + ${place("w_at")}`),
  };
}
