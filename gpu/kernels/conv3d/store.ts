/** WGSL: adds bias and residual to four sums of output pixel `m` from channel `n` on, and stores them. */
export const STORE = `
fn store(m: u32, n: u32, sums: vec4f) {
  let area = p.height * p.width;
  if (m >= p.frames * area || n >= p.channels) { return; }
  let frame = (m / area) * (p.channels / p.frame_channels) + n / p.frame_channels;
  let at = ((frame * area + m % area) * p.frame_channels + n % p.frame_channels) / 4u;
  var v = sums + bias[n / 4u];
  if (p.has_residual != 0u) { v += residual[at]; }
  y[at] = v;
}`;
