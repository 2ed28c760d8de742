import type { Gpu } from "../../gpu/gpu.ts";
import { zeros } from "../../gpu/ops/elementwise.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { product } from "./grid.ts";
import { type TokenLayout, validTokens } from "./layout.ts";

/**
 * Makes a tensor like q, [batch, tokens, heads · head dim], for an output. Padding is 0; the rest is undefined.
 *
 * @param y the tensor, where it exists: q itself, if nothing else reads that
 */
export function attentionOutput(gpu: Gpu, q: Tensor, layout: TokenLayout, y?: Tensor): Tensor {
  const [batch, tokens, dim] = q.shape as [number, number, number];
  if (tokens !== product(layout.grid) + layout.kept) {
    throw new Error(`attention: ${tokens} tokens, but the layout has ${layout.grid.join("x")} and ${layout.kept}`);
  }
  y ??= gpu.tensor(q.shape);
  const valid = validTokens(layout), rows = y.reshape([batch * tokens, dim]);
  if (valid === tokens) return y;
  gpu.untaped(() =>
    gpu.scope(() => {
      const padding = zeros(gpu, [tokens - valid, dim]);
      for (let b = 0; b < batch; b++) gpu.copy(padding, rows.slice(b * tokens + valid, tokens - valid));
    })
  );
  return y;
}
