/**
 * Numbers that f16 could not hold. Kernels that make f16 of f32 hold a number back to ±65504 rather than let it become
 * an infinity; they count what they held back, so that it can be told.
 *
 * @module
 */
import { type Binding, type KernelSource, write } from "./kernel.ts";
import { Tensor } from "./tensor.ts";

/** f16 ends here. */
export const F16_MAX = 65504;

/** What kernels count under a fixed name; their places in the buffer. */
export const CLAMP_KINDS = {
  "inputs of matrix products": 0,
  "keys and values of attention": 1,
  "inputs of convolutions": 2,
} as const;

/** One of {@link CLAMP_KINDS}. */
export type ClampKind = keyof typeof CLAMP_KINDS;

/** Counted, but told to nobody: what was told under its name before. */
const SILENT = 3;
const FIRST_NAMED = 4;
/** Places in the buffer; the weights of a model are some hundreds. What comes after that shares the last. */
const PLACES = 4096;

/** Name of the buffer in kernels that count. `Gpu.run` binds it. */
export const CLAMPED = "clamped";

/** The buffer of a kernel that counts. */
export const clampedBuffer: Readonly<Record<typeof CLAMPED, Binding>> = { [CLAMPED]: write("atomic<u32>") };

/** WGSL: `note_clamped(v)` counts those of four numbers that f16 cannot hold. */
export const noteClamped = (kind: ClampKind): string => {
  const past = `abs(v) > vec4f(${F16_MAX}.0)`;
  return `
fn note_clamped(v: vec4f) {
  if (any(${past})) {
    atomicAdd(&${CLAMPED}[${CLAMP_KINDS[kind]}u], u32(dot(select(vec4f(), vec4f(1.0), ${past}), vec4f(1.0))));
  }
}`;
};

const NOTE = /fn note_clamped\(v: vec4f\) \{[^]*?\n\}/;
const withoutCount = new WeakMap<KernelSource, KernelSource>();

/**
 * The kernel without its counting by {@link noteClamped}: the function does nothing, so that compilers leave out what
 * leads to it. Counting takes up to 4 % of a matrix product.
 */
export function uncounted(kernel: KernelSource): KernelSource {
  if (!kernel.declarations || !NOTE.test(kernel.declarations)) return kernel;
  const known = withoutCount.get(kernel);
  if (known) return known;
  const { [CLAMPED]: _, ...buffers } = kernel.buffers;
  const declarations = kernel.declarations.replace(NOTE, "fn note_clamped(v: vec4f) {}");
  const plain = { ...kernel, buffers, declarations };
  withoutCount.set(kernel, plain);
  return plain;
}

/** How many numbers of one kind were held back. */
export interface ClampCount {
  /** One of {@link CLAMP_KINDS}, or a name that {@link ClampCounter.placeOf} was given. */
  readonly what: string;
  readonly count: number;
}

/** The counts of one device. */
export class ClampCounter {
  readonly tensor: Tensor;
  /** Whether a kernel that counts was run since the last {@link counts}. */
  used = false;
  readonly #names = new Map<string, number>();

  constructor(device: GPUDevice) {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    this.tensor = new Tensor(device.createBuffer({ label: CLAMPED, size: 4 * PLACES, usage }), 0, [PLACES], "u32");
  }

  /**
   * Where a kernel counts what has a name of its own. Each name is counted once: a weight that is streamed comes many
   * times.
   */
  placeOf(name: string): number {
    if (this.#names.has(name)) return SILENT;
    const place = Math.min(FIRST_NAMED + this.#names.size, PLACES - 1);
    this.#names.set(name, place);
    return place;
  }

  /** What the buffer says; kinds of which there are none are left out. */
  counts(buffer: ArrayBuffer): ClampCount[] {
    const numbers = new Uint32Array(buffer);
    return [...Object.entries(CLAMP_KINDS), ...this.#names]
      .map(([what, place]) => ({ what, count: numbers[place]! }))
      .filter(({ count }) => count > 0);
  }
}
