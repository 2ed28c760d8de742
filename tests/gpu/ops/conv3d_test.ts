import { channelNorm } from "../../../gpu/ops/channel_norm.ts";
import type { ConvVariant } from "../../../gpu/kernels/conv3d/variants.ts";
import { CONV3D, conv3d, type Conv3dOptions, convWeight } from "../../../gpu/ops/conv3d.ts";
import { channelAffine, clampInPlace, fill } from "../../../gpu/ops/elementwise.ts";
import { cutWindow, pasteWindow } from "../../../gpu/ops/frames.ts";
import { packHalves } from "../../../gpu/ops/pack_halves.ts";
import { rgb8 } from "../../../gpu/ops/rgb8.ts";
import { softmaxInPlace } from "../../../gpu/ops/softmax.ts";
import { assertEquals, assertThrows } from "@std/assert";
import { assertClose, exceptPlain, randn, testVariants, type Variant } from "../../gpu.ts";
import { productVariants } from "../../product_variants.ts";

const four = (channels: number) => Math.ceil(channels / 4) * 4;

/** Channels-last numbers with zeros up to a multiple of 4 channels, as a convolution's neighbours have them. */
function padded(values: Float32Array, channels: number): Float32Array {
  const out = new Float32Array(values.length / channels * four(channels));
  for (let i = 0; i < values.length; i++) {
    out[Math.floor(i / channels) * four(channels) + i % channels] = values[i]!;
  }
  return out;
}

type Shape4 = readonly [number, number, number, number];

/** The convolution in float64, on explicitly padded and enlarged frames, with PyTorch's weight layout. */
function reference(
  x: Float32Array,
  [frames, height, width, cin]: Shape4,
  weight: Float32Array,
  [cout, kt, kh, kw]: Shape4,
  bias: Float32Array,
  options: Conv3dOptions,
) {
  if (options.border === "replicate") {
    return referenceReplicated(x, [frames, height, width, cin], weight, [cout, kt, kh, kw], bias, options);
  }
  const { strideTime = 1, stride = 1, up = 1 } = options;
  const before = kh === 3 && stride === 1 ? 1 : 0, after = kh === 3 ? 1 : 0;
  const H = height * up + before + after, W = width * up + before + after;
  const big = new Float64Array(frames * H * W * cin);
  for (let t = 0; t < frames; t++) {
    for (let h = 0; h < height * up; h++) {
      for (let w = 0; w < width * up; w++) {
        for (let c = 0; c < cin; c++) {
          big[((t * H + h + before) * W + w + before) * cin + c] =
            x[((t * height + Math.floor(h / up)) * width + Math.floor(w / up)) * cin + c]!;
        }
      }
    }
  }
  const [ft, fh, fw] = [(frames - kt) / strideTime, (H - kh) / stride, (W - kw) / stride].map((v) => Math.floor(v) + 1);
  const y = new Float64Array(ft! * fh! * fw! * cout);
  let at = 0;
  for (let t = 0; t < ft!; t++) {
    for (let h = 0; h < fh!; h++) {
      for (let w = 0; w < fw!; w++) {
        for (let n = 0; n < cout; n++) {
          let sum = bias[n]!;
          for (let c = 0; c < cin; c++) {
            for (let a = 0; a < kt; a++) {
              for (let b = 0; b < kh; b++) {
                for (let d = 0; d < kw; d++) {
                  sum += weight[(((n * cin + c) * kt + a) * kh + b) * kw + d]! *
                    big[(((t * strideTime + a) * H + h * stride + b) * W + w * stride + d) * cin + c]!;
                }
              }
            }
          }
          y[at++] = sum;
        }
      }
    }
  }
  return { y, shape: [ft!, fh!, fw!, cout] as const };
}

/** The same with a replicated border, as `F.pad(mode="replicate")` before an unpadded convolution. */
function referenceReplicated(
  x: Float32Array,
  [frames, height, width, cin]: Shape4,
  weight: Float32Array,
  [cout, kt, kh, kw]: Shape4,
  bias: Float32Array,
  { strideTime = 1, stride = 1, up = 1, upTime = 1 }: Conv3dOptions,
) {
  // Enlarged frames first; all but the first are repeated.
  const order = Array.from({ length: frames }, (_, t) => t === 0 ? [0] : Array<number>(upTime).fill(t)).flat();
  const H = height * up, W = width * up, edge = (kh - 1) / 2;
  const at = (t: number, h: number, w: number, c: number) => {
    const inside = (i: number, length: number) => Math.min(Math.max(i, 0), length - 1);
    const frame = order[inside(t - kt + 1, order.length)]!;
    const row = Math.floor(inside(h - edge, H) / up), column = Math.floor(inside(w - edge, W) / up);
    return x[((frame * height + row) * width + column) * cin + c]!;
  };
  const outputs = (length: number, kernel: number, step: number) => Math.floor((length - kernel) / step) + 1;
  const shape = [
    outputs(order.length + kt - 1, kt, strideTime),
    outputs(H + 2 * edge, kh, stride),
    outputs(W + 2 * edge, kw, stride),
    cout,
  ] as const;
  const y = new Float64Array(shape[0] * shape[1] * shape[2] * cout);
  for (let i = 0; i < y.length; i++) {
    const n = i % cout, pixel = Math.floor(i / cout);
    const w = pixel % shape[2],
      h = Math.floor(pixel / shape[2]) % shape[1],
      t = Math.floor(pixel / shape[2] / shape[1]);
    let sum = bias[n]!;
    for (let c = 0; c < cin; c++) {
      for (let a = 0; a < kt; a++) {
        for (let b = 0; b < kh; b++) {
          for (let d = 0; d < kw; d++) {
            sum += weight[(((n * cin + c) * kt + a) * kh + b) * kw + d]! *
              at(t * strideTime + a, h * stride + b, w * stride + d, c);
          }
        }
      }
    }
    y[i] = sum;
  }
  return { y, shape };
}

/** PyTorch's [out, in, kt, kh, kw] to [out, kt, kh, kw, in], both channel counts filled up with zeros. */
function channelsLast(weight: Float32Array, [cout, kt, kh, kw]: Shape4, cin: number): Float32Array {
  const taps = kt * kh * kw, out = new Float32Array(four(cout) * taps * four(cin));
  for (let n = 0; n < cout; n++) {
    for (let c = 0; c < cin; c++) {
      for (let k = 0; k < taps; k++) out[(n * taps + k) * four(cin) + c] = weight[(n * cin + c) * taps + k]!;
    }
  }
  return out;
}

const CASES: readonly (readonly [input: Shape4, kernel: Shape4, options: Conv3dOptions])[] = [
  [[1, 1, 1, 3], [1, 1, 3, 3], {}],
  [[3, 5, 7, 3], [16, 3, 3, 3], {}],
  [[5, 9, 35, 16], [3, 3, 3, 3], {}],
  [[4, 6, 17, 5], [16, 3, 3, 3], {}],
  [[3, 16, 33, 20], [40, 3, 3, 3], {}],
  [[1, 11, 13, 24], [100, 1, 3, 3], {}],
  [[3, 4, 5, 8], [192, 3, 3, 3], {}],
  [[2, 8, 6, 5], [16, 1, 3, 3], { stride: 2 }],
  [[1, 7, 37, 16], [3, 1, 3, 3], { stride: 2 }],
  [[2, 5, 7, 16], [8, 1, 3, 3], { up: 2 }],
  [[1, 3, 19, 3], [1, 1, 3, 3], { up: 2 }],
  [[4, 3, 5, 8], [16, 3, 1, 1], {}],
  [[7, 3, 19, 16], [16, 3, 1, 1], { strideTime: 2 }],
  [[2, 3, 5, 5], [3, 1, 1, 1], {}],
  [[1, 1, 1, 3], [1, 3, 3, 3], { border: "replicate" }],
  [[3, 5, 7, 8], [16, 3, 3, 3], { border: "replicate" }],
  [[2, 4, 35, 16], [3, 3, 3, 3], { border: "replicate" }],
  [[3, 6, 18, 24], [12, 3, 3, 3], { border: "replicate", stride: 2 }],
  [[5, 7, 5, 8], [16, 3, 3, 3], { border: "replicate", stride: 2, strideTime: 2 }],
  [[4, 3, 5, 5], [16, 3, 3, 3], { border: "replicate", strideTime: 2 }],
  [[1, 3, 5, 16], [8, 3, 3, 3], { border: "replicate", up: 2, upTime: 2 }],
  [[3, 4, 9, 16], [8, 3, 3, 3], { border: "replicate", up: 2, upTime: 2 }],
  [[3, 5, 3, 24], [20, 3, 3, 3], { border: "replicate", up: 2 }],
];

for (const [input, kernel, options] of CASES) {
  testVariants(`conv3d of [${input}] with [${kernel}] ${JSON.stringify(options)}`, async ({ gpu, bound }) => {
    const [frames, height, width, cin] = input, [cout, kt, kh, kw] = kernel;
    const x = randn(frames * height * width * cin, 1), w = randn(cout * cin * kt * kh * kw, 2), b = randn(cout, 3);
    const { y: ref, shape } = reference(x, input, w, kernel, b, options);
    const extra = randn(ref.length, 4);
    const operands = [
      gpu.upload(padded(x, cin), [frames, height, width, four(cin)]),
      gpu.upload(channelsLast(w, kernel, cin), [four(cout), kt, kh, kw, four(cin)]),
      gpu.upload(padded(b, cout), [four(cout)]),
    ] as const;
    const outShape = [...shape.slice(0, 3), four(cout)];
    const plain = conv3d(gpu, ...operands, options);
    assertEquals(plain.shape, outShape);
    assertClose(await gpu.read(plain), padded(Float32Array.from(ref), cout), bound);
    const residual = gpu.upload(padded(extra, cout), outShape);
    const added = conv3d(gpu, ...operands, { ...options, residual });
    assertClose(await gpu.read(added), padded(Float32Array.from(ref, (v, i) => v + extra[i]!), cout), bound);
  });
}

/** Those of a real GPU; on a software renderer smaller ones with the same code. */
function convVariants(variant: Variant): ReadonlyMap<string, ConvVariant> {
  if (variant.hardware) return CONV3D.variants(variant.gpu);
  const tile = { threads: [4, 16], outputs: [8, 4], depth: 16, ahead: false } as const;
  const others: Readonly<Record<string, readonly ConvVariant[]>> = {
    "tiled f16": [{ by: "squares", tile, format: { stretch: 16 } }],
    "matrix f16": [
      { by: "windows", tile: { across: 1, subgroups: [2, 1], units: [2, 1], depth: 1, taps: "row", ahead: true } },
      { by: "windows", tile: { across: 2, subgroups: [1, 2], units: [2, 1], depth: 2, taps: "one", ahead: false } },
    ],
  };
  const named = (others[variant.name] ?? []).map((way): [string, ConvVariant] => [JSON.stringify(way), way]);
  return new Map([...productVariants(variant, CONV3D), ...named]);
}

testVariants("conv3d in every way that an adapter can", async (variant) => {
  const { gpu, bound } = variant, input = [3, 9, 11, 24] as const, kernel = [100, 3, 3, 3] as const;
  const x = randn(3 * 9 * 11 * 24, 1), w = randn(100 * 27 * 24, 2), b = randn(100, 3);
  const { y: ref } = reference(x, input, w, kernel, b, {});
  const weight = gpu.upload(channelsLast(w, kernel, 24), [100, 3, 3, 3, 24]);
  const operands = [gpu.upload(x, input), weight, gpu.upload(b, [100])] as const;
  for (const [name, way] of convVariants(variant)) {
    assertClose(await gpu.read(conv3d(gpu, ...operands, { variant: way })), ref, bound, name);
  }
}, exceptPlain);

testVariants("conv3d of a ring of frames, in every way that an adapter can", async (variant) => {
  const { gpu, bound } = variant, input = [4, 5, 19, 16] as const, kernel = [20, 3, 3, 3] as const;
  const x = randn(4 * 5 * 19 * 16, 1), w = randn(20 * 27 * 16, 2), b = randn(20, 3);
  const { y: ref } = reference(x, input, w, kernel, b, {});
  // Five frames, of which the third is the first of four.
  const frame = 5 * 19 * 16, ring = new Float32Array(5 * frame).fill(NaN);
  for (let t = 0; t < 4; t++) ring.set(x.subarray(t * frame, (t + 1) * frame), (t + 2) % 5 * frame);
  const weight = gpu.upload(channelsLast(w, kernel, 16), [20, 3, 3, 3, 16]), bias = gpu.upload(b, [20]);
  const frames = gpu.upload(ring, [5, 5, 19, 16]);
  const inputs = gpu.f16 ? [frames, packHalves(gpu, frames)] : [frames];
  for (const [name, way] of [["the device's own", undefined] as const, ...convVariants(variant)]) {
    for (const input of inputs) {
      const options = { ring: { first: 2, frames: 4 }, ...way && { variant: way } };
      assertClose(await gpu.read(conv3d(gpu, input, weight, bias, options)), ref, bound, name);
      const converted = convWeight(gpu, weight);
      if (!way) assertClose(await gpu.read(conv3d(gpu, input, converted, bias, options)), ref, bound, "converted");
    }
  }
});

testVariants("conv3d turns channels into frames", async ({ gpu, bound }) => {
  const input = [4, 3, 5, 8] as const, kernel = [16, 3, 1, 1] as const;
  const x = randn(4 * 3 * 5 * 8, 1), w = randn(16 * 8 * 3, 2), b = randn(16, 3);
  const { y: ref } = reference(x, input, w, kernel, b, {});
  const expected = new Float32Array(ref.length);
  for (let i = 0; i < ref.length; i++) {
    const c = i % 16, pixel = Math.floor(i / 16) % 15, t = Math.floor(i / 16 / 15);
    expected[((2 * t + Math.floor(c / 8)) * 15 + pixel) * 8 + c % 8] = ref[i]!;
  }
  const y = conv3d(
    gpu,
    gpu.upload(x, input),
    gpu.upload(channelsLast(w, kernel, 8), [16, 3, 1, 1, 8]),
    gpu.upload(b, [16]),
    { interleave: 2 },
  );
  assertEquals(y.shape, [4, 3, 5, 8]);
  assertClose(await gpu.read(y), expected, bound);
});

testVariants("conv3d refuses operands that do not fit", async ({ gpu }) => {
  const x = gpu.tensor([3, 4, 4, 8]), bias = gpu.tensor([8]);
  assertThrows(() => conv3d(gpu, x, gpu.tensor([8, 3, 3, 3, 4]), bias), Error, "does not fit");
  assertThrows(() => conv3d(gpu, x, gpu.tensor([8, 3, 3, 1, 8]), bias), Error, "does not fit");
  await gpu.finish();
});

for (const [pixels, dim] of [[2, 3], [37, 8], [1100, 96]] as const) {
  testVariants(`channelNorm of ${pixels} x ${dim}`, async ({ gpu }) => {
    const x = randn(pixels * dim, 1, 3), gamma = randn(dim, 2);
    x.fill(0, 0, dim);
    const ref = new Float64Array(x.length);
    for (let i = 0; i < pixels; i++) {
      const row = x.subarray(i * dim, (i + 1) * dim);
      const norm = Math.max(Math.hypot(...row), 1e-12);
      for (let c = 0; c < dim; c++) ref[i * dim + c] = row[c]! / norm * Math.sqrt(dim) * gamma[c]!;
    }
    const operands = [
      gpu.upload(padded(x, dim), [pixels, four(dim)]),
      gpu.upload(padded(gamma, dim), [four(dim)]),
    ] as const;
    assertClose(await gpu.read(channelNorm(gpu, ...operands, dim)), padded(Float32Array.from(ref), dim), 1e-6);

    const into = gpu.upload(new Float32Array((pixels + 3) * four(dim)).fill(7), [pixels + 3, four(dim)]);
    channelNorm(gpu, ...operands, dim, { silu: true, into, start: 2 });
    const silu = padded(Float32Array.from(ref, (v) => v / (1 + Math.exp(-v))), dim);
    const around = new Float32Array(into.size).fill(7);
    around.set(silu, 2 * four(dim));
    assertClose(await gpu.read(into), around, 1e-6);

    if (!gpu.f16) return;
    // Of a ring, whose last row is the first to be written.
    const ring = gpu.upload(new Uint8Array(2 * (pixels + 3) * four(dim)), [pixels + 3, four(dim)], "f16");
    channelNorm(gpu, ...operands, dim, { silu: true, into: ring, start: pixels + 2 });
    const bytes = new Float16Array(await gpu.readBytes(ring), 0, ring.size), halves = new Float32Array(ring.size);
    halves.set(silu.subarray(0, four(dim)), (pixels + 2) * four(dim));
    halves.set(silu.subarray(four(dim)));
    assertClose(bytes, halves, 1e-3);
  });
}

testVariants("softmaxInPlace leaves out the columns beyond", async ({ gpu }) => {
  for (const [rows, columns, width] of [[1, 1, 4], [9, 33, 36], [3, 300, 300]] as const) {
    const x = randn(rows * width, 5, 20), ref = new Float64Array(x.length);
    for (let i = 0; i < rows; i++) {
      const e = [...x.subarray(i * width, i * width + columns)];
      const top = Math.max(...e), sum = e.reduce((s, v) => s + Math.exp(v - top), 0);
      e.forEach((v, j) => ref[i * width + j] = Math.exp(v - top) / sum);
      x.fill(NaN, i * width + columns, (i + 1) * width);
    }
    const y = gpu.upload(x, [rows, width]);
    softmaxInPlace(gpu, y, columns);
    assertClose(await gpu.read(y), ref, 1e-5);
  }
});

testVariants("cutWindow and pasteWindow", async ({ gpu }) => {
  const [C, F, H, W] = [3, 4, 5, 7], clip = randn(C * F * H * W, 6);
  const window = { frame: 1, frames: 2, top: 2, left: 3, height: 3, width: 2 };
  const cut = cutWindow(gpu, gpu.upload(clip, [C, F, H, W]), window);
  const expected = new Float32Array(2 * 3 * 2 * 4);
  const at = (c: number, t: number, h: number, w: number) => ((c * F + 1 + t) * H + 2 + h) * W + 3 + w;
  const each = (visit: (i: number, c: number, t: number, h: number, w: number) => void) => {
    for (let i = 0; i < expected.length; i++) {
      const c = i % 4, w = (i >> 2) % 2, h = (i >> 3) % 3, t = Math.floor((i >> 3) / 3);
      if (c < 3) visit(i, c, t, h, w);
    }
  };
  each((i, c, t, h, w) => expected[i] = clip[at(c, t, h, w)]!);
  assertEquals(await gpu.read(cut), expected);

  const canvas = gpu.tensor([C, F, H, W]), ref = new Float32Array(C * F * H * W).fill(0.25);
  fill(gpu, canvas, 0.25);
  pasteWindow(gpu, cut, canvas, window, { limit: 0.5 });
  each((i, c, t, h, w) => ref[at(c, t, h, w)] = Math.min(Math.max(expected[i]!, -0.5), 0.5));
  assertEquals(await gpu.read(canvas), ref);

  const weights = randn(6, 7);
  pasteWindow(gpu, cut, canvas, window, { weights: gpu.upload(weights, [3, 2]) });
  each((i, c, t, h, w) => ref[at(c, t, h, w)]! += expected[i]! * weights[h * 2 + w]!);
  assertClose(await gpu.read(canvas), ref, 1e-6);

  // Each frame with weights of its own, the first left out: it is the second that comes to the place of the first.
  fill(gpu, canvas, 0.5);
  ref.fill(0.5);
  pasteWindow(gpu, cut, canvas, window, { weights: gpu.upload(weights, [1, 3, 2]), skip: 1 });
  each((i, c, t, h, w) => {
    if (t === 1) ref[at(c, 0, h, w)]! += expected[i]! * weights[h * 2 + w]!;
  });
  assertClose(await gpu.read(canvas), ref, 1e-6);
});

testVariants("channelAffine and clampInPlace", async ({ gpu }) => {
  const x = randn(2 * 3 * 5, 8), scale = randn(3, 9), shift = randn(3, 10);
  const y = channelAffine(gpu, gpu.upload(x, [2, 3, 5]), gpu.upload(scale, [3]), gpu.upload(shift, [3]));
  const ref = x.map((v, i) => v * scale[Math.floor(i / 5) % 3]! + shift[Math.floor(i / 5) % 3]!);
  assertClose(await gpu.read(y), ref, 1e-6);
  clampInPlace(gpu, y, -0.5, 0.75);
  assertClose(await gpu.read(y), ref.map((v) => Math.min(Math.max(v, -0.5), 0.75)), 1e-6);
});

testVariants("rgb8 rounds, clamps and packs", async ({ gpu }) => {
  const [F, H, W] = [2, 3, 3], pixels = F * H * W;
  // Every fifth level and ±0.3, from below black to above white.
  const levels = Array.from({ length: 3 * pixels }, (_, i) => 5 * i - 5);
  const x = Float32Array.from(levels, (v, i) => (v + (i % 2 ? 0.3 : -0.3)) / 127.5 - 1);
  const bytes = new Uint8Array(await gpu.readBytes(rgb8(gpu, gpu.upload(x, [3, F, H, W]))));
  const expected = new Uint8Array(3 * pixels);
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < pixels; i++) {
      expected[i * 3 + c] = Math.min(Math.max(levels[c * pixels + i]!, 0), 255);
    }
  }
  assertEquals(bytes.subarray(0, 3 * pixels), expected);
});
