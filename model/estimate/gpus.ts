import type { Gpu } from "../../gpu/gpu.ts";

/** What is published of a GPU. */
export interface GpuModel {
  readonly name: string;
  /** Matches what sources of devices call it. */
  readonly matches: RegExp;
  /** GB (10⁹ bytes) of memory. */
  readonly memory: number;
  /** GB/s. */
  readonly bandwidth: number;
  /** TFLOP/s of f32 arithmetic outside matrix units. */
  readonly f32: number;
  /** Absent where tilereel reaches no matrix units. */
  readonly matrix?: MatrixRates;
}

/** What is published of a GPU's matrix units, and of the multiprocessors that feed them. */
export interface MatrixRates {
  /** TFLOP/s with f16 operands and f32 sums, without structured sparsity. GeForce cards have half of that with f16 sums. */
  readonly f16: number;
  /** Tops with int8 operands, without structured sparsity. */
  readonly int8: number;
  /** The number of multiprocessors × their highest clock in GHz. */
  readonly multiprocessorClock: number;
}

/**
 * Common GPUs, by the makers' datasheets; Apple publishes no rates, so those are cores × 128 lanes × clock. The first is
 * the one that was measured. AMD's and Apple's matrix units are not reached: Dawn does not offer them in the shapes that
 * the kernels need, or with subgroups of a fixed size.
 */
export const GPUS: readonly [GpuModel, ...GpuModel[]] = [
  {
    ...{ name: "H200", matches: /h200/i, memory: 141, bandwidth: 4800, f32: 67 },
    matrix: { f16: 989, int8: 1979, multiprocessorClock: 132 * 1.98 },
  },
  {
    ...{ name: "H100 SXM", matches: /h100/i, memory: 80, bandwidth: 3350, f32: 67 },
    matrix: { f16: 989, int8: 1979, multiprocessorClock: 132 * 1.98 },
  },
  {
    ...{ name: "A100 80 GB", matches: /a100/i, memory: 80, bandwidth: 2039, f32: 19.5 },
    matrix: { f16: 312, int8: 624, multiprocessorClock: 108 * 1.41 },
  },
  {
    ...{ name: "RTX 5090", matches: /rtx 5090(?! laptop)/i, memory: 32, bandwidth: 1792, f32: 104.8 },
    matrix: { f16: 209.5, int8: 838, multiprocessorClock: 170 * 2.41 },
  },
  {
    ...{ name: "RTX 4090", matches: /rtx 4090(?! laptop)/i, memory: 24, bandwidth: 1008, f32: 82.6 },
    matrix: { f16: 165.2, int8: 660.6, multiprocessorClock: 128 * 2.52 },
  },
  {
    ...{ name: "RTX 4070", matches: /rtx 4070(?! (ti|super|laptop))/i, memory: 12, bandwidth: 504, f32: 29.1 },
    matrix: { f16: 58.3, int8: 233.2, multiprocessorClock: 46 * 2.48 },
  },
  {
    ...{ name: "RTX 3060 12 GB", matches: /rtx 3060(?! (ti|laptop))/i, memory: 12, bandwidth: 360, f32: 12.7 },
    matrix: { f16: 25.6, int8: 102, multiprocessorClock: 28 * 1.78 },
  },
  { name: "RX 7900 XTX", matches: /7900 xtx/i, memory: 24, bandwidth: 960, f32: 61.4 },
  { name: "M4 Max (40 cores, 64 GB)", matches: /m4 max/i, memory: 48, bandwidth: 546, f32: 16.1 },
  { name: "M3 (10 cores, 16 GB)", matches: /apple.m3\b(?! (max|pro|ultra))/i, memory: 10, bandwidth: 100, f32: 3.5 },
];

/** The GPU that was measured. */
export const MEASURED_GPU = GPUS[0];

/** The adapter as estimates know it, with the rates of its matrix units only if they are reached. */
export function knownGpu({ settings: { description: { name } }, matrixUnits }: Gpu): GpuModel | undefined {
  const known = GPUS.find(({ matches }) => matches.test(name));
  if (!known || matrixUnits) return known;
  const { matrix: _, ...threads } = known;
  return threads;
}
