/**
 * 3D convolution of channels-last frames, with what surrounds it in a video autoencoder fused in: zero padding in space,
 * nearest-neighbour 2× upsampling of the input, a residual, and the interleaving of output channels into frames.
 *
 *     y[t, h, w, n] = residual[t, h, w, n] + bias[n]
 *                   + Σ_(dt, dy, dx, c) x[t·stride_t + dt, (h·stride + dy − pad) / up, (w·stride + dx − pad) / up, c] · weight[n, dt, dy, dx, c]
 *
 * Time is never padded: the frames before come with the input. Input and weight are contiguous along c, so every load is
 * a vec4 along c and the inner step a dot product of four. Two shapes of the loop: `plain` for software adapters (no
 * barrier, no workgroup memory) and `tiled` for GPUs (an implicit matrix product staged in workgroup memory).
 *
 * @module
 */
import { type KernelSource, read, unroll, write } from "../kernel.ts";
import { memo } from "./memo.ts";

const PARAMS = {
  /** of the input */
  height_in: "u32",
  width_in: "u32",
  /** input channels / 4 */
  c4: "u32",
  /** of the output, before channels become frames */
  frames: "u32",
  height: "u32",
  width: "u32",
  channels: "u32",
  kernel_t: "u32",
  kernel_h: "u32",
  kernel_w: "u32",
  stride_t: "u32",
  pad: "i32",
  has_residual: "u32",
  /** channels / how many frames one frame's channels become */
  frame_channels: "u32",
} as const;

/** What a kernel is specialised for. */
export interface Conv3dShape {
  /** In height and width. */
  readonly stride: 1 | 2;
  /** Each pixel of the input counts as up × up of them. */
  readonly up: 1 | 2;
}

/** Outputs of one thread of {@link conv3dPlain}: pixels of one row, and channels; threads of its workgroup. */
export const PLAIN = { pixels: 16, channels: 8, threads: 8 } as const;

/** Kernel widths {@link conv3dPlain} is written for. */
export type PlainWidth = 1 | 3;

/**
 * For software adapters, where a load costs as much as a hundred products: each thread holds 16×8 sums, and the pixels
 * that neighbouring taps of a row share are loaded once.
 */
export const conv3dPlain = memo(
  ({ stride, up, kernelWidth }: Conv3dShape & { kernelWidth: PlainWidth }): KernelSource => {
    const { pixels, channels } = PLAIN;
    const pad = kernelWidth === 3 && stride === 1 ? 1 : 0;
    // Where pixel i's tap dx lies among the pixels loaded, which start at the row's first pixel − pad (upsampled: rounded down).
    const slot = (i: number, dx: number) =>
      up === 1 ? i * stride + dx : Math.floor((i + dx - pad) / 2) - Math.floor(-pad / 2);
    const loads = slot(pixels - 1, kernelWidth - 1) + 1;
    return {
      name: `conv3d_plain_${kernelWidth}_${stride}_${up}`,
      buffers: {
        x: read("vec4f"),
        weight: read("vec4f"),
        bias: read("vec4f"),
        residual: read("vec4f"),
        y: write("vec4f"),
      },
      params: PARAMS,
      workgroupSize: [PLAIN.threads, 1, 1],
      body: `  let blocks = (p.width + ${pixels - 1}u) / ${pixels}u;
  let x0 = (gid.x % blocks) * ${pixels}u;
  let row = (gid.x / blocks) % p.height;
  let t = gid.x / (blocks * p.height);
  if (t >= p.frames) { return; }
  let n0 = gid.y * ${channels}u;
  let taps4 = p.kernel_t * p.kernel_h * ${kernelWidth}u * p.c4;
${unroll(channels, (j) => `  let w${j} = min(n0 + ${j}u, p.channels - 1u) * taps4;`)}
${unroll(pixels * channels, (i) => `  var s${i} = 0.0;`)}
  let left = (i32(x0) * ${stride} - ${pad}) >> ${up - 1}u;
${
        unroll(loads, (s) =>
          `  let in${s} = u32(left + ${s}) < p.width_in; let at${s} = u32(clamp(left + ${s}, 0, i32(p.width_in) - 1)) * p.c4;`)
      }
  for (var dt = 0u; dt < p.kernel_t; dt++) {
    for (var dy = 0u; dy < p.kernel_h; dy++) {
      let y_in = (i32(row) * ${stride} + i32(dy) - p.pad) >> ${up - 1}u;
      if (u32(y_in) < p.height_in) {
        let start = ((t * p.stride_t + dt) * p.height_in + u32(y_in)) * p.width_in * p.c4;
        let tap = (dt * p.kernel_h + dy) * ${kernelWidth}u * p.c4;
        for (var c = 0u; c < p.c4; c++) {
${unroll(loads, (s) => `          let x${s} = select(vec4f(), x[start + at${s} + c], in${s});`)}
${
        unroll(channels, (j) =>
          unroll(kernelWidth, (dx) =>
            `          { let b = weight[w${j} + tap + ${dx}u * p.c4 + c]; ${
              unroll(pixels, (i) =>
                `s${i * channels + j} += dot(x${slot(i, dx)}, b);`)
            } }`))
      }
        }
      }
    }
  }
${
        unroll(channels / 4, (j4) =>
          `  {
    let n = n0 + ${4 * j4}u;
    if (n < p.channels) {
      let b = bias[n / 4u];
      let frame = t * (p.channels / p.frame_channels) + n / p.frame_channels;
      let to = (((frame * p.height + row) * p.width + x0) * p.frame_channels + n % p.frame_channels) / 4u;
${
            unroll(pixels, (i) =>
              `      if (x0 + ${i}u < p.width) {
        let at = to + ${i}u * (p.frame_channels / 4u);
        var v = b + vec4f(${[0, 1, 2, 3].map((j) => `s${i * channels + 4 * j4 + j}`).join(", ")});
        if (p.has_residual != 0u) { v += residual[at]; }
        y[at] = v;
      }`)
          }
    }
  }`)
      }`,
    };
  },
);

/** vec4s along the input channels in one staged block. */
const BLOCK_C4 = 4;

/** A variant of {@link conv3dTiled}; a workgroup of 16×16 threads computes 16·rows pixels × 16·cols channels. */
export interface TiledConv3d extends Conv3dShape {
  readonly rows: 4 | 8;
  readonly cols: 1 | 2 | 4 | 6;
  /** Operands are staged in f16 and multiplied there; each product of four is added up in f32. */
  readonly f16: boolean;
}

/** For GPUs: for one tap after the other, blocks of pixels and weights are staged and multiplied. */
export const conv3dTiled = memo(({ stride, up, rows, cols, f16 }: TiledConv3d): KernelSource => {
  const pixels = 16 * rows, channels = 16 * cols;
  const loads = pixels * BLOCK_C4 / 256;
  const vec = f16 ? "vec4h" : "vec4f";
  return {
    name: `conv3d_tiled_${pixels}x${channels}_${stride}_${up}${f16 ? "_f16" : ""}`,
    f16,
    buffers: { x: read("vec4f"), weight: read("vec4f"), bias: read("f32"), residual: read("f32"), y: write("f32") },
    params: PARAMS,
    workgroupSize: [16, 16, 1],
    declarations: `
var<workgroup> xs: array<${vec}, ${BLOCK_C4 * pixels}>;
var<workgroup> ws: array<${vec}, ${BLOCK_C4 * channels}>;
fn store(m: u32, n: u32, sum: f32) {
  let area = p.height * p.width;
  if (m >= p.frames * area || n >= p.channels) { return; }
  let frame = (m / area) * (p.channels / p.frame_channels) + n / p.frame_channels;
  let at = (frame * area + m % area) * p.frame_channels + n % p.frame_channels;
  var v = sum + bias[n];
  if (p.has_residual != 0u) { v += residual[at]; }
  y[at] = v;
}`,
    // Block layout [c4][row]: neighbouring threads read neighbouring vec4s. A thread's rows are 16 apart for the same reason.
    body: `  let pixel0 = wid.x * ${pixels}u;
  let channel0 = wid.y * ${channels}u;
  let k = li % ${BLOCK_C4}u;
  let taps4 = p.kernel_t * p.kernel_h * p.kernel_w * p.c4;
${
      unroll(loads, (i) =>
        `  let m${i} = min(pixel0 + li / ${BLOCK_C4}u + ${i * 256 / BLOCK_C4}u, p.frames * p.height * p.width - 1u);
  let x${i} = i32(m${i} % p.width) * ${stride} - p.pad;
  let y${i} = i32((m${i} / p.width) % p.height) * ${stride} - p.pad;
  let t${i} = m${i} / (p.width * p.height) * p.stride_t;`)
    }
${unroll(rows * cols, (i) => `  var s${i} = 0.0;`)}
  for (var tap = 0u; tap < p.kernel_t * p.kernel_h * p.kernel_w; tap++) {
    let dx = i32(tap % p.kernel_w);
    let dy = i32((tap / p.kernel_w) % p.kernel_h);
    let dt = tap / (p.kernel_w * p.kernel_h);
${
      unroll(loads, (i) =>
        `    let u${i} = (x${i} + dx) >> ${up - 1}u;
    let v${i} = (y${i} + dy) >> ${up - 1}u;
    let inside${i} = u32(u${i}) < p.width_in && u32(v${i}) < p.height_in;
    let at${i} = select(0u, (((t${i} + dt) * p.height_in + u32(v${i})) * p.width_in + u32(u${i})) * p.c4, inside${i});`)
    }
    for (var c0 = 0u; c0 < p.c4; c0 += ${BLOCK_C4}u) {
      let c = min(c0 + k, p.c4 - 1u);
      let some = c0 + k < p.c4;
${
      unroll(loads, (i) =>
        `      xs[k * ${pixels}u + li / ${BLOCK_C4}u + ${i * 256 / BLOCK_C4}u] =
        ${vec}(select(vec4f(), x[at${i} + c], inside${i} && some));`)
    }
      for (var i = li; i < ${BLOCK_C4 * channels}u; i += 256u) {
        let n = i / ${BLOCK_C4}u;
        ws[k * ${channels}u + n] = ${vec}(weight[min(channel0 + n, p.channels - 1u) * taps4 + tap * p.c4 + c]);
      }
      workgroupBarrier();
${
      unroll(BLOCK_C4, (q) =>
        `      {
${unroll(rows, (i) => `        let a${i} = xs[${q * pixels + 16 * i}u + lid.y];`)}
${
          unroll(cols, (j) =>
            `        { let b = ws[${q * channels + 16 * j}u + lid.x]; ${
              unroll(rows, (i) => `s${i * cols + j} += ${f16 ? `f32(dot(a${i}, b))` : `dot(a${i}, b)`};`)
            } }`)
        }
      }`)
    }
      workgroupBarrier();
    }
  }
${
      unroll(rows, (i) =>
        unroll(cols, (j) =>
          `  store(pixel0 + lid.y + ${16 * i}u, channel0 + lid.x + ${16 * j}u, s${i * cols + j});`))
    }`,
  };
});
