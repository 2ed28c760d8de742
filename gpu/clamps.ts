/**
 * Counts numbers that f16 cannot hold. Kernels that convert f32 to f16 clamp to ±65504, so that no number becomes an
 * infinity. They count what they clamped, so that the user can be told.
 *
 * @module
 */
import { u32 } from "./formats/u32.ts";
import { type Binding, type KernelSource, write } from "./kernel.ts";
import type { Dispatch } from "./recorder.ts";
import { Tensor } from "./tensor.ts";

/** The largest finite f16. */
export const F16_MAX = 65504;

/** The kinds that kernels count under a fixed name. An index here is an index in the buffer. */
export const CLAMP_KINDS = {
  "inputs of matrix products": 0,
  "keys and values of attention": 1,
  "inputs of convolutions": 2,
} as const;

export type ClampKind = keyof typeof CLAMP_KINDS;

/** Counts that are not reported, because they were reported under their name before. */
const SILENT = 3;
const FIRST_NAMED = 4;
/** Number of counters in the buffer. A model has some hundreds of weights; any further names share the last counter. */
const COUNTERS = 4096;

/** The name of the counting buffer in kernels. `Gpu.run` binds it. */
export const CLAMPED = "clamped";

/** Declares the counting buffer of a kernel. */
export const clampedBuffer: Readonly<Record<typeof CLAMPED, Binding>> = { [CLAMPED]: write("atomic<u32>") };

/** WGSL: `note_clamped(v)` counts the numbers of a vec4f that f16 cannot hold. */
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
 * A copy of the kernel that does not count: {@link noteClamped}'s function is empty, so that compilers remove the code
 * that leads to it. Counting costs up to 4 % of a matrix product.
 */
function uncounted(kernel: KernelSource): KernelSource {
  const known = withoutCount.get(kernel);
  if (known) return known;
  const { declarations = "", buffers: { [CLAMPED]: _, ...buffers } } = kernel;
  // A kernel that counts by itself stays as it is.
  const plain = NOTE.test(declarations)
    ? { ...kernel, buffers, declarations: declarations.replace(NOTE, "fn note_clamped(v: vec4f) {}") }
    : kernel;
  withoutCount.set(kernel, plain);
  return plain;
}

/** How many numbers of one kind were clamped. */
export interface ClampCount {
  /** One of {@link CLAMP_KINDS}, or a name that {@link ClampCounter.counterOf} was given. */
  readonly what: string;
  readonly count: number;
}

export class ClampCounter {
  readonly tensor: Tensor;
  /** Whether a counting kernel has run since the last {@link counts}. */
  used = false;
  readonly #names = new Map<string, number>();

  constructor(device: GPUDevice) {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    this.tensor = new Tensor(device.createBuffer({ label: CLAMPED, size: 4 * COUNTERS, usage }), 0, [COUNTERS], u32);
  }

  /**
   * The index of the counter with this name. Each name is reported once, because a streamed weight is loaded many
   * times.
   */
  counterOf(name: string): number {
    if (this.#names.has(name)) return SILENT;
    const counter = Math.min(FIRST_NAMED + this.#names.size, COUNTERS - 1);
    this.#names.set(name, counter);
    return counter;
  }

  /** What to record instead of a kernel's launch. Kernels that clamp count where `counting` says so. */
  watched(kernel: KernelSource, dispatch: Dispatch, counting: boolean): [KernelSource, Dispatch] {
    if (CLAMPED in kernel.buffers && !counting) kernel = uncounted(kernel);
    if (!(CLAMPED in kernel.buffers)) return [kernel, dispatch];
    this.used = true;
    return [kernel, { ...dispatch, buffers: { ...dispatch.buffers, [CLAMPED]: this.tensor } }];
  }

  /** Reads the counters; kinds with a count of zero are left out. */
  counts(buffer: ArrayBuffer): ClampCount[] {
    const numbers = new Uint32Array(buffer);
    return [...Object.entries(CLAMP_KINDS), ...this.#names]
      .map(([what, counter]) => ({ what, count: numbers[counter]! }))
      .filter(({ count }) => count > 0);
  }
}
