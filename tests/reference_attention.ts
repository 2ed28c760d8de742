/**
 * Attention by its definition, in float64: every pair is looked at, and a predicate says whether it counts.
 *
 * @module
 */

/** Sizes and the pairs that count. */
export interface Reference {
  readonly batch: number;
  readonly queries: number;
  readonly keys: number;
  readonly heads: number;
  readonly headDim: number;
  /** Whether query i sees key j. Default: always. */
  readonly sees?: (batch: number, head: number, i: number, j: number) => boolean;
}

type Numbers = ArrayLike<number>;

/** The scores of one query; those that do not count are −∞. */
function scoresOf(q: Numbers, k: Numbers, r: Reference, b: number, h: number, i: number): Float64Array {
  const { queries, keys, heads, headDim, sees } = r;
  const scores = new Float64Array(keys).fill(-Infinity);
  for (let j = 0; j < keys; j++) {
    if (sees && !sees(b, h, i, j)) continue;
    let dot = 0;
    for (let d = 0; d < headDim; d++) {
      dot += q[((b * queries + i) * heads + h) * headDim + d]! * k[((b * keys + j) * heads + h) * headDim + d]!;
    }
    scores[j] = dot / Math.sqrt(headDim);
  }
  return scores;
}

/** The weights of one query. */
function weights(q: Numbers, k: Numbers, r: Reference, b: number, h: number, i: number): Float64Array {
  const scores = scoresOf(q, k, r, b, h, i);
  const top = scores.reduce((a, c) => Math.max(a, c));
  const e = scores.map((s) => Math.exp(s - top));
  const sum = e.reduce((a, c) => a + c);
  return e.map((x) => x / sum);
}

/** softmax(q·kᵀ / √d)·v over the pairs that count; queries that see nothing get NaN. */
export function attend(q: Numbers, k: Numbers, v: Numbers, r: Reference): Float64Array {
  const { batch, queries, keys, heads, headDim } = r;
  const y = new Float64Array(batch * queries * heads * headDim);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      for (let i = 0; i < queries; i++) {
        const p = weights(q, k, r, b, h, i);
        for (let j = 0; j < keys; j++) {
          if (p[j] === 0) continue;
          for (let d = 0; d < headDim; d++) {
            y[((b * queries + i) * heads + h) * headDim + d]! += p[j]! * v[((b * keys + j) * heads + h) * headDim + d]!;
          }
        }
      }
    }
  }
  return y;
}

/** log Σ exp(score) of each query over the keys that count: [batch, queries, heads]. */
export function logSums(q: Numbers, k: Numbers, r: Reference): Float64Array {
  const { batch, queries, heads } = r;
  return Float64Array.from({ length: batch * queries * heads }, (_, at) => {
    const row = Math.floor(at / heads);
    const scores = scoresOf(q, k, r, Math.floor(row / queries), at % heads, row % queries);
    const top = scores.reduce((a, c) => Math.max(a, c));
    return top + Math.log(scores.reduce((sum, s) => sum + Math.exp(s - top), 0));
  });
}

/** Gradients of Σ dy·y by q, k and v. */
export function attendBack(q: Numbers, k: Numbers, v: Numbers, dy: Numbers, r: Reference) {
  const { batch, queries, keys, heads, headDim } = r;
  const dq = new Float64Array(q.length), dk = new Float64Array(k.length), dv = new Float64Array(v.length);
  const scale = 1 / Math.sqrt(headDim);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      for (let i = 0; i < queries; i++) {
        const p = weights(q, k, r, b, h, i), at = ((b * queries + i) * heads + h) * headDim;
        const place = (j: number) => ((b * keys + j) * heads + h) * headDim;
        const dp = p.map((_, j) => {
          let dot = 0;
          for (let d = 0; d < headDim; d++) dot += dy[at + d]! * v[place(j) + d]!;
          return dot;
        });
        const mean = p.reduce((sum, pj, j) => sum + pj * dp[j]!, 0);
        for (let j = 0; j < keys; j++) {
          const ds = p[j]! * (dp[j]! - mean) * scale;
          for (let d = 0; d < headDim; d++) {
            dq[at + d]! += ds * k[place(j) + d]!;
            dk[place(j) + d]! += ds * q[at + d]!;
            dv[place(j) + d]! += p[j]! * dy[at + d]!;
          }
        }
      }
    }
  }
  return { dq, dk, dv };
}
