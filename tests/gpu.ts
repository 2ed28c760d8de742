/**
 * What the GPU tests share: a poisoned device in each kernel variant, random numbers, and the error measure.
 *
 * @module
 */
import { openGpu } from "../gpu/native/open.ts";
import { Gpu } from "../gpu/gpu.ts";
import type { KernelKind } from "../gpu/kernel_picker.ts";
import type { Operands } from "../gpu/precision.ts";
import { relativeError } from "../gpu/relative_error.ts";
import { assert } from "@std/assert";

const VARIANTS = ["plain", "tiled", "tiled f16", "matrix f16"] as const;

/** A device as one family of kernels sees it. */
export interface Variant {
  readonly name: typeof VARIANTS[number];
  readonly gpu: Gpu;
  /** Largest relative error an op may have: rounding of the operands, and no more. */
  readonly bound: number;
  /** Whether this is a real GPU, where the largest kernels compile in no time. */
  readonly hardware: boolean;
}

let opened: Promise<Variant[]> | undefined;

/**
 * The machine's adapter in every variant it can run: `plain` as software adapters use it, `tiled` as GPUs do, and f16
 * where there is shader-f16. One device serves them all. Software rendering over OpenGL takes minutes to compile a
 * tiled kernel, which it never runs: there only `plain` is tested. The environment variable TILEREEL_TEST_GPU names
 * another adapter, as --gpu does.
 */
export function variants(): Promise<Variant[]> {
  return opened ??= open();
}

/** The adapter to test on. With TILEREEL_CHECK_BOUNDS=1 its kernels check their indices. */
export function openTestGpu(): Promise<Gpu> {
  const choice = Deno.env.get("TILEREEL_TEST_GPU") ?? "auto";
  return openGpu({ choice, checkBounds: Deno.env.get("TILEREEL_CHECK_BOUNDS") === "1" });
}

async function open(): Promise<Variant[]> {
  const { device, settings } = await openTestGpu();
  // At the end of the file: a driver whose threads still run when the process ends may crash it. Dawn crashes it here.
  if (settings.description.source === "deno") addEventListener("unload", () => device.destroy());
  const as = (name: Variant["name"], kernels: KernelKind, precision: Operands, bound: number): Variant => {
    const gpu = new Gpu(device, { ...settings, kernels, precision });
    gpu.poison = true;
    return { name, gpu, bound, hardware: !settings.description.software };
  };
  const { features, software, matrixUnits } = settings.description, f16 = features.includes("shader-f16");
  const found = [as("plain", "plain", "f32", 2e-6)];
  if (f16 || !software) found.push(as("tiled", "tiled", "f32", 2e-6));
  if (f16) found.push(as("tiled f16", "tiled", "f16", 2e-3));
  if (matrixUnits) found.push(as("matrix f16", "matrix", "f16", 2e-3));
  return found;
}

/** Runs a test on a device of its own, poisoned, and closes that. Devices outlive what Deno counts as leaks. */
export function testOnGpu(name: string, run: (gpu: Gpu) => Promise<void>): void {
  Deno.test({
    name,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async () => {
      const gpu = await openTestGpu();
      gpu.poison = true;
      try {
        await run(gpu);
      } finally {
        gpu.close();
      }
    },
  });
}

/**
 * Runs a test on every variant, or on those that `applies` picks. Variants that the adapter cannot run, and those that
 * are not picked, are shown as ignored. Devices outlive a test, so Deno must not count them as leaks.
 */
export function testVariants(
  name: string,
  run: (variant: Variant) => Promise<void>,
  applies: (variant: Variant) => boolean = () => true,
): void {
  Deno.test({
    name,
    sanitizeResources: false,
    sanitizeOps: false,
    fn: async (t) => {
      const found = new Map((await variants()).map((variant) => [variant.name, variant]));
      for (const name of VARIANTS) {
        const variant = found.get(name);
        await t.step({
          name,
          ignore: variant === undefined || !applies(variant),
          sanitizeResources: false,
          sanitizeOps: false,
          fn: () => run(variant!),
        });
      }
    },
  });
}

/** For {@link testVariants}: the kernels for software adapters, where what is tested is the same for all kernels. */
export const plainOnly = ({ name }: Variant) => name === "plain";
/** For {@link testVariants}: the kernels for GPUs. */
export const exceptPlain = ({ name }: Variant) => name !== "plain";

/** Normally distributed numbers, the same for the same seed. */
export function randn(count: number, seed: number, scale = 1): Float32Array {
  let state = seed * 2654435761 + 1 >>> 0;
  const uniform = () => {
    state = Math.imul(state ^ state >>> 15, 0x2c1b3c6d) + 0x9e3779b9 >>> 0;
    let z = state;
    z = Math.imul(z ^ z >>> 16, 0x21f0aaad) >>> 0;
    z = Math.imul(z ^ z >>> 15, 0x735a2d97) >>> 0;
    return ((z ^ z >>> 15) >>> 0) / 2 ** 32;
  };
  return Float32Array.from({ length: count }, () => {
    const r = Math.sqrt(-2 * Math.log(1 - uniform()));
    return scale * r * Math.cos(2 * Math.PI * uniform());
  });
}

/** Fails unless `out` is within `bound` of `ref`. */
export function assertClose(out: ArrayLike<number>, ref: ArrayLike<number>, bound: number, what = ""): void {
  const error = relativeError(out, ref);
  assert(error <= bound, `${what} relative error ${error} exceeds ${bound}`);
}

/** What `i8` stands for, of its integers, and the other way round: fours are turned, as `TURNED` says. */
export function turned(values: ArrayLike<number>): Float64Array {
  return Float64Array.from(values, (_, i) => {
    const [a, b, c, d] = [0, 1, 2, 3].map((j) => values[i - i % 4 + j]!) as [number, number, number, number];
    return [a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d][i % 4]! / 2;
  });
}

/** The upper halves of f32s, packed, and the numbers they stand for. */
export function toBf16(values: Float32Array): { packed: Uint8Array; values: Float32Array } {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const packed = new Uint16Array(values.length), rounded = new Float32Array(values.length);
  for (let i = 0; i < bits.length; i++) packed[i] = bits[i]! >>> 16;
  new Uint32Array(rounded.buffer).set(bits.map((b) => b & 0xffff0000));
  return { packed: new Uint8Array(packed.buffer), values: rounded };
}
