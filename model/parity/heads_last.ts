/**
 * Converts references of attention, which are stored head by head, to tilereel's order, token by token.
 *
 * @module
 */

/** [heads, tokens, head dim] as [tokens, heads, head dim]. */
export function headsLast(x: Float32Array, heads: number, tokens: number, headDim: number): Float32Array {
  const y = new Float32Array(x.length);
  for (let h = 0; h < heads; h++) {
    for (let t = 0; t < tokens; t++) {
      const from = (h * tokens + t) * headDim;
      y.set(x.subarray(from, from + headDim), (t * heads + h) * headDim);
    }
  }
  return y;
}
