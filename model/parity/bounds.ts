/** The most for all numbers together, and for the row that is furthest off, by the precision of operands. */
export interface Bounds {
  readonly f32: readonly [all: number, worstRow: number];
  readonly f16: readonly [all: number, worstRow: number];
}

/** Computations that no format of operands affects. */
const always = (all: number, worstRow: number): Bounds => ({ f32: [all, worstRow], f16: [all, worstRow] });

/**
 * About five times what was measured on Mesa's OpenGL and Vulkan (f32) and Vulkan (f16) in software, the larger of the
 * two: 2026-11-29. What an H200 gave before with f16 matrix units is within twice of it (docs/performance.md).
 */
export const BOUNDS = {
  tinyUmt5: { f32: [2e-6, 3e-6], f16: [3e-3, 7e-3] },
  demoTextEncoder: { f32: [2e-6, 8e-6], f16: [3e-3, 1e-2] },
  tinyLlama: { f32: [4e-6, 7e-6], f16: [1.1e-2, 1.6e-2] },
  tinyClipText: { f32: [1.6e-6, 2.6e-6], f16: [3.3e-3, 5.5e-3] },
  tinyClipVision: { f32: [1.6e-6, 2.6e-6], f16: [3.3e-3, 5.5e-3] },
  tinyTransformer: { f32: [8e-6, 2e-5], f16: [2e-3, 4e-3] },
  demoTransformer: { f32: [5e-6, 1.3e-5], f16: [3e-3, 1e-2] },
  /**
   * For references made on a CPU, 9.6e-6 and 1.7e-5 were measured in f32, and for those made on a GPU three times that.
   * Nearly all of it comes from the references' sinusoids: a frequency that differs by one unit in the last place turns
   * the phase of 6000, the scale of guidance, by 4e-4.
   */
  tinyHunyuan: { f32: [7e-5, 1e-4], f16: [3.3e-3, 6.5e-3] },
  lora: { f32: [1.9e-5, 4e-5], f16: [3e-3, 5.5e-3] },
  stepCache: { f32: [3.5e-5, 9e-5], f16: [4e-3, 8e-3] },
  tinyVaeDecoded: { f32: [9e-6, 2e-5], f16: [8e-3, 1.4e-2] },
  tinyVaeEncoded: { f32: [4e-6, 1e-5], f16: [4e-3, 1e-2] },
  tinyHunyuanVaeDecoded: { f32: [1e-5, 3e-5], f16: [8e-3, 1.6e-2] },
  tinyHunyuanVaeEncoded: { f32: [7e-6, 1.8e-5], f16: [6e-3, 1.4e-2] },
  demoVaeDecoded: { f32: [2e-5, 7e-5], f16: [8e-3, 3e-2] },
  demoVaeEncoded: { f32: [2e-6, 5e-6], f16: [1e-3, 3e-3] },
  vortaAttention: { f32: [5e-6, 4.5e-5], f16: [7e-3, 5e-2] },
  vortaHunyuan: { f32: [5e-6, 2e-5], f16: [7e-3, 3.6e-2] },
  vortaTrainOutput: always(4e-6, 1.2e-5),
  routingScores: always(3e-7, 6e-7),
  routerGradient: always(2e-5, 4e-5),
  vortaEval: { f32: [4e-6, 2e-5], f16: [3e-3, 1.3e-2] },
  /**
   * In f16 two queries of a bucket may be as like its centre, but for rounding, so that another one is kept: five of
   * the 1,440 kept at τ 0.3, each with one head of two tokens wrong; none at 0.5, where the error is 7e-4.
   */
  vortaPartial: { f32: [5e-6, 2e-5], f16: [5e-2, 0.45] },
  /** In f16 a bucket may keep another token, as above. */
  hunyuanEval: { f32: [8.5e-6, 1.6e-5], f16: [2.8e-2, 0.22] },
  vedaFeatures: always(1.2e-7, 1.8e-7),
  vedaScores: always(3e-6, 5e-6),
  vedaSecondOrder: always(3e-7, 5e-7),
  vedaAttention: { f32: [3e-6, 1.4e-5], f16: [8e-3, 3e-2] },
  vedaLse: always(3e-7, 2e-6),
  vedaHeat: always(4e-6, 1.5e-5),
  vsaCoarse: { f32: [1e-6, 2e-6], f16: [3e-3, 4e-3] },
  vsaSparse: { f32: [2e-6, 1e-5], f16: [6e-3, 2.5e-2] },
  vsaOutput: { f32: [2e-6, 9e-6], f16: [6e-3, 2.2e-2] },
  tinyFastWan: { f32: [7e-6, 1.4e-5], f16: [3e-3, 5e-3] },
  vedaGradient: always(1e-5, 3.5e-5),
} as const satisfies Record<string, Bounds>;

/**
 * Relative errors of single numbers, and of tensors without rows. A single number may agree better by chance, so bounds
 * below 1e-6 are not five times what was measured. All of training is here, which runs in f32.
 */
export const SCALAR_BOUNDS = {
  divergence: 2e-6,
  recall: 1e-6,
  searchedErrors: 1e-6,
  losses: { diffusion: 1e-6, distillation: 7e-6, hidden: 7e-6, regularization: 1e-6, total: 1e-6 },
  /** Counted by gradient, of routers from ten seeds: see docs/parity.md. */
  trainedRouter: 3e-6,
  /** Timesteps and sigmas; then samples. */
  schedule: 1e-7,
  samples: { unipc: 1.5e-6, euler: 2e-7 },
} as const;

/** Of the pipeline with clips of the demo's size, and with small ones, which the model knows less well. */
export const PIPELINE_BOUNDS = {
  usual: {
    /** Latents after the first step. For later steps it is multiplied by the step's number, because errors add up. */
    latents: { f32: [2e-6, 6e-6], f16: [1.6e-3, 6e-3] },
    /** The smallest PSNR in dB of the whole video, and of its worst row of pixels. */
    video: { f32: [77, 60], f16: [50, 37] },
  },
  small: {
    latents: { f32: [1.1e-5, 5e-5], f16: [7e-3, 2.4e-2] },
    video: { f32: [71, 57], f16: [41, 29] },
  },
  tinyWanImages: {
    latents: { f32: [2e-6, 4.5e-6], f16: [1.5e-3, 3.6e-3] },
    video: { f32: [73, 56], f16: [43, 40] },
  },
  tinyHunyuan: {
    latents: { f32: [1e-5, 2.1e-5], f16: [4e-4, 7.5e-4] },
    video: { f32: [69, 54], f16: [49, 45] },
  },
} as const;

/** The bounds of latents after a step, counted from 0. */
export function latentsBounds(size: keyof typeof PIPELINE_BOUNDS, step: number): Bounds {
  const { f32, f16 } = PIPELINE_BOUNDS[size].latents, n = step + 1;
  return { f32: [f32[0] * n, f32[1] * n], f16: [f16[0] * n, f16[1] * n] };
}
