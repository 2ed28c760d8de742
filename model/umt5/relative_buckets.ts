/**
 * T5's bucket of each distance key − query from 1 − tokens to tokens − 1. Half of the buckets are for keys behind the
 * query; in each half, half stand for one distance each and the others for ranges that grow logarithmically up to
 * `maxDistance`, the last one taking everything beyond.
 */
export function relativeBuckets(tokens: number, buckets: number, maxDistance: number): Uint32Array<ArrayBuffer> {
  const half = buckets / 2, exact = half / 2;
  return Uint32Array.from({ length: 2 * tokens - 1 }, (_, i) => {
    const offset = i - (tokens - 1), distance = Math.abs(offset);
    const direction = offset > 0 ? half : 0;
    if (distance < exact) return direction + distance;
    // In float32 step by step: where a range begins exactly at a distance, the reference's rounding decides.
    const ratio = Math.fround(Math.fround(Math.log(distance / exact)) / Math.fround(Math.log(maxDistance / exact)));
    return direction + Math.min(half - 1, exact + Math.trunc(Math.fround(ratio * (half - exact))));
  });
}
