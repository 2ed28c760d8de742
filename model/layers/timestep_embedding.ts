/** −ln 10000, the logarithm of the longest period. */
const LOG = Math.fround(-Math.log(10000));

/**
 * Sinusoidal embedding: cosines, then sines, of the timestep at geometrically spaced frequencies.
 *
 * @param timesteps one for each batch item
 * @param dim the number of channels, even
 * @returns [batch, dim]
 */
export function timestepEmbedding(timesteps: readonly number[], dim: number): Float32Array<ArrayBuffer> {
  const half = dim / 2;
  const out = new Float32Array(timesteps.length * dim);
  for (const [b, t] of timesteps.entries()) {
    for (let i = 0; i < half; i++) {
      // Everything is in f32, as in the reference: at t = 1000 the rounding of the phase matters.
      const frequency = Math.fround(Math.exp(Math.fround(Math.fround(LOG * i) / half)));
      const phase = Math.fround(Math.fround(t) * frequency);
      out[b * dim + i] = Math.cos(phase);
      out[b * dim + half + i] = Math.sin(phase);
    }
  }
  return out;
}
