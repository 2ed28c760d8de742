import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";
import { bytesOf, type Tensor } from "../tensor.ts";

/** Whatever the format, words of 32 bits are copied. */
const KERNEL = perElement({
  name: "columns",
  buffers: { x: read("u32"), y: write("u32") },
  params: u32s("width", "first", "columns"),
  body: "  y[i] = x[(i / p.columns) * p.width + p.first + i % p.columns];",
});

/** Rows are copied in parts of multiples of this, where a matrix is too large to bind: each part can be bound. */
const PART_ROWS = 256;

/**
 * Copies columns of a weight: a product with a concatenation is the sum of the products with its parts, for which the
 * parts need not be joined. It has no gradient.
 *
 * @param w [rows, columns], any format of matrices; may be too large to bind
 * @param first the first column; it and `count` are whole blocks of the format and whole words of 32 bits
 * @returns [rows, count] in the format of `w`
 */
export function columns(gpu: Gpu, w: Tensor, first: number, count: number): Tensor {
  const { format, shape: [rows, all] } = w as Tensor & { shape: [number, number] };
  const words = (elements: number) => {
    const bytes = format.bytes(elements);
    if (elements % format.blockElements !== 0 || bytes % 4 !== 0) {
      throw new Error(`columns ${first}..${first + count} of [${w.shape}] ${format} are no whole words`);
    }
    return bytes / 4;
  };
  if (first + count > all) throw new Error(`[${w.shape}] has no columns ${first}..${first + count}`);
  const params = { width: words(all), first: words(first), columns: words(count) };
  const y = gpu.weight([rows, count], format, "columns of a weight");
  const fits = Math.floor(gpu.maxTensorBytes / bytesOf([PART_ROWS, all], format)) * PART_ROWS;
  const step = w.bytes <= gpu.maxTensorBytes ? rows : fits;
  for (let row = 0; row < rows; row += step) {
    const part = Math.min(step, rows - row);
    runPerElement(gpu, KERNEL, { x: w.rows(row, part), y: y.rows(row, part) }, params);
  }
  gpu.tape?.record(y, [w], () => []);
  return y;
}
