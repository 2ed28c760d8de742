import { clampedBuffer } from "../clamps.ts";
import { countedHalves } from "../formats/halves.ts";
import type { Gpu } from "../gpu.ts";
import { folded, type KernelSource, read, write } from "../kernel.ts";
import { memo } from "../kernels/memo.ts";
import type { Tensor } from "../tensor.ts";

/** The threads that share a pixel on a GPU: neighbours read neighbouring vec4s. */
const LANES = 16;
/** The number of pixels of a workgroup, for both variants. */
const PIXELS = 16;

const kernel = memo(({ plain, halves }: { plain: boolean; halves: boolean }): KernelSource => {
  const lanes = plain ? 1 : LANES;
  return {
    name: `channel_norm${plain ? "_plain" : ""}${halves ? "_halves" : ""}`,
    buffers: {
      ...{ x: read("vec4f"), gamma: read("vec4f"), y: write(halves ? "vec2u" : "vec4f") },
      ...halves && clampedBuffer,
    },
    params: { pixels: "u32", c4: "u32", start: "u32", room: "u32", scale: "f32", silu: "u32" },
    workgroupSize: [PIXELS * lanes, 1, 1],
    declarations: `${plain ? "" : `var<workgroup> partial: array<f32, ${PIXELS * LANES}>;`}${
      halves ? countedHalves("inputs of convolutions") : ""
    }`,
    body: `  let pixel = (wid.y * nwg.x + wid.x) * ${PIXELS}u + li / ${lanes}u;
  let lane = li % ${lanes}u;
  let at = min(pixel, p.pixels - 1u) * p.c4;
  var sum = 0.0;
  for (var i = lane; i < p.c4; i += ${lanes}u) { let v = x[at + i]; sum += dot(v, v); }
${
      plain ? "" : `  partial[li] = sum;
  workgroupBarrier();
  sum = 0.0;
  for (var i = 0u; i < ${LANES}u; i++) { sum += partial[li - lane + i]; }`
    }
  if (pixel >= p.pixels) { return; }
  let scale = p.scale / max(sqrt(sum), 1e-12);
  let to = (p.start + pixel) % p.room * p.c4;
  for (var i = lane; i < p.c4; i += ${lanes}u) {
    var v = x[at + i] * scale * gamma[i];
    if (p.silu != 0u) { v = v / (1.0 + exp(-v)); }
    y[to + i] = ${halves ? "four_halves(v)" : "v"};
  }`,
  };
});

/** Options of {@link channelNorm}. */
export interface ChannelNormOptions {
  /** Whether SiLU is applied to the result. */
  readonly silu?: boolean;
  /**
   * Where to write the result, from pixel `start` on, instead of to a new tensor: f32 or f16, with x's channels. Behind
   * its end, writing goes on at its beginning.
   */
  readonly into?: Tensor;
  readonly start?: number;
}

/**
 * y = x / ‖x‖ · √dim · gamma, over the last axis: a norm of pixels, as video autoencoders use it.
 *
 * @param x [..., channels], f32; channels a multiple of 4, those beyond `dim` zero
 * @param gamma [channels], f32
 * @param dim how many of the channels count
 */
export function channelNorm(
  gpu: Gpu,
  x: Tensor,
  gamma: Tensor,
  dim: number,
  { silu = false, into, start = 0 }: ChannelNormOptions = {},
): Tensor {
  const channels = x.dim(-1), pixels = x.size / channels;
  const y = into ?? gpu.tensor(x.shape), room = y.size / channels;
  if (gamma.size !== channels || pixels > room || room % 1 !== 0) {
    throw new Error(`channelNorm: x [${x.shape}], gamma [${gamma.shape}], y [${y.shape}] from ${start}`);
  }
  gpu.run(kernel({ plain: gpu.kernels.plain, halves: y.format.name === "f16" }), {
    buffers: { x, gamma, y },
    params: { pixels, c4: channels / 4, start, room, scale: Math.sqrt(dim), silu: silu ? 1 : 0 },
    workgroups: folded(Math.ceil(pixels / PIXELS)),
  });
  return y;
}
