import { type KernelSource, unroll } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { CONV3D_BUFFERS, CONV3D_PARAMS, type Conv3dShape, inputFrame, padding, shapeName } from "./shape.ts";

/**
 * The outputs of one thread of {@link conv3dPlain} (pixels of one row, and channels), and the threads of its workgroup.
 */
export const PLAIN = { pixels: 16, channels: 8, threads: 8 } as const;

/** The kernel widths that {@link conv3dPlain} supports. */
export type PlainWidth = 1 | 3;

/**
 * For software adapters, without barriers and workgroup memory. A load costs as much as a hundred products there, so
 * each thread holds 16×8 sums, and loads the pixels that neighbouring taps of a row share only once.
 */
export const conv3dPlain = memo(
  (shape: Conv3dShape & { kernelWidth: PlainWidth }): KernelSource => {
    const { stride, up, replicate, kernelWidth } = shape;
    const { pixels, channels } = PLAIN;
    const pad = kernelWidth === 3 ? padding(shape) : 0;
    // The position of pixel i's tap dx among the loaded pixels, which start at the row's first pixel − pad (with
    // upsampling, rounded down).
    const slot = (i: number, dx: number) =>
      up === 1 ? i * stride + dx : Math.floor((i + dx - pad) / 2) - Math.floor(-pad / 2);
    const loads = slot(pixels - 1, kernelWidth - 1) + 1;
    return {
      name: `conv3d_plain_${kernelWidth}_${shapeName(shape)}`,
      buffers: CONV3D_BUFFERS,
      params: CONV3D_PARAMS,
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
          `  ${
            replicate ? "" : `let in${s} = u32(left + ${s}) < p.width_in; `
          }let at${s} = u32(clamp(left + ${s}, 0, i32(p.width_in) - 1)) * p.c4;`)
      }
  for (var dt = 0u; dt < p.kernel_t; dt++) {
    for (var dy = 0u; dy < p.kernel_h; dy++) {
      let y_at = (i32(row) * ${stride} + i32(dy) - p.pad) >> ${up - 1}u;
      let y_in = ${replicate ? "clamp(y_at, 0, i32(p.height_in) - 1)" : "y_at"};
      if (u32(y_in) < p.height_in) {
        let start = (${inputFrame(replicate, "t * p.stride_t + dt")} * p.height_in + u32(y_in)) * p.width_in * p.c4;
        let tap = (dt * p.kernel_h + dy) * ${kernelWidth}u * p.c4;
        for (var c = 0u; c < p.c4; c++) {
${
        unroll(loads, (s) => {
          const loaded = `x[start + at${s} + c]`;
          return `          let x${s} = ${replicate ? loaded : `select(vec4f(), ${loaded}, in${s})`};`;
        })
      }
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
