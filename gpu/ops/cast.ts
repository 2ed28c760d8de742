import { clampedBuffer } from "../clamps.ts";
import { f32 } from "../formats/f32.ts";
import type { MatrixFormat } from "../formats/format.ts";
import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import { memo } from "../kernels/memo.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";
import type { Tensor } from "../tensor.ts";

/** What distinguishes kernels that cast. */
interface Cast {
  readonly from: MatrixFormat;
  readonly to: MatrixFormat;
  readonly adds: boolean;
}

const kernel = memo(({ from, to, adds }: Cast) =>
  perElement({
    name: `cast_${from}_${to}${adds ? "_add" : ""}`,
    buffers: {
      x: read(from.read.pair.element),
      ...adds && { added: read("f32") },
      y: write("u32"),
      ...to.rounding?.counts && clampedBuffer,
    },
    params: u32s("numbers", "counter"),
    declarations: from.read.pair.declare("x") + (to.rounding?.half ?? ""),
    body: `  var pair = ${from.read.pair.read("x", "i")};
  // There is no number past the last one.
  let ends = 2u * i + 1u == p.numbers;
  if (ends) { pair.y = 0u; }
${
      adds
        ? `  pair.x = bitcast<u32>(bitcast<f32>(pair.x) + added[2u * i]);
  if (!ends) { pair.y = bitcast<u32>(bitcast<f32>(pair.y) + added[2u * i + 1u]); }
`
        : ""
    }${
      to.rounding ? "  y[i] = half(pair.x) | (half(pair.y) << 16u);" : `  y[2u * i] = pair.x;
  if (!ends) { y[2u * i + 1u] = pair.y; }`
    }`,
  })
);

/**
 * Converts numbers to f32, or to a format of 16 bits to nearest, ties to even. Numbers past f16's range become ±65504
 * and are counted by the counter `counter` (see `Gpu.clampCounter`).
 *
 * @param x any format of matrices
 * @param y f32, f16 or bf16, the same number of elements; may be part of a tensor, but not of `x`
 * @param added f32, the same number of elements: what is added before numbers are rounded
 */
export function castInto(gpu: Gpu, x: Tensor, y: Tensor, counter: number, added?: Tensor): void {
  const from = x.matrixFormat, to = y.matrixFormat, numbers = y.size;
  if (x.size !== numbers || !to.rounding && to !== f32 || added && (added.size !== numbers || added.format !== f32)) {
    throw new Error(
      `cast of [${x.shape}] ${from} to [${y.shape}] ${to}${added ? `, with [${added.shape}] added` : ""}`,
    );
  }
  const buffers = { x, ...added && { added }, y }, pairs = Math.ceil(numbers / 2);
  runPerElement(gpu, kernel({ from, to, adds: added !== undefined }), buffers, { numbers, counter }, pairs);
}
