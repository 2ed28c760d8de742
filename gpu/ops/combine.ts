import type { Gpu } from "../gpu.ts";
import { read, unroll, write } from "../kernel.ts";
import { memo } from "../kernels/memo.ts";
import type { Tensor } from "../tensor.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";

/** A coefficient and the tensor that it multiplies. */
export type Term = readonly [coefficient: number, tensor: Tensor];

const kernel = memo((terms: number) =>
  perElement({
    name: `combine_${terms}`,
    buffers: {
      ...Object.fromEntries(Array.from({ length: terms }, (_, i) => [`x${i}`, read("f32")])),
      y: write("f32"),
    },
    params: Object.fromEntries(Array.from({ length: terms }, (_, i) => [`c${i}`, "f32" as const])),
    body: `  var v = p.c0 * x0[i];
${unroll(terms - 1, (t) => `  v += p.c${t + 1} * x${t + 1}[i];`)}
  y[i] = v;`,
  })
);

/**
 * The weighted sum Σ cᵢ·xᵢ of one to six f32 tensors of one size; it has the shape of the first.
 *
 * @throws {Error} for any other number of terms
 */
export function combine(gpu: Gpu, terms: readonly Term[]): Tensor {
  const [first] = terms;
  if (!first || terms.length > 6) throw new Error(`combine takes 1 to 6 terms, got ${terms.length}`);
  const operands = Object.fromEntries(terms.map(([, x], i) => [`x${i}`, x]));
  const coefficients = Object.fromEntries(terms.map(([c], i) => [`c${i}`, c]));
  const y = runPerElement(gpu, kernel(terms.length), { ...operands, y: gpu.tensor(first[1].shape) }, coefficients);
  gpu.tape?.record(y, terms.map(([, x]) => x), (dy, wanted) =>
    terms.map(([c], i) => {
      if (!wanted[i]) return undefined;
      return c === 1 ? dy : combine(gpu, [[c, dy]]);
    }));
  return y;
}
