/** The settings of AdamW. */
export interface AdamWOptions {
  /** Learning rate. */
  readonly lr: number;
  /** The weight decay: the part of each parameter, times the learning rate, that a step subtracts. */
  readonly weightDecay: number;
  /** The number of steps in which the learning rate rises to its value, in equal parts. Default: 0 */
  readonly warmup?: number;
  /** The factor by which a step keeps the running mean of the squared gradients. Default: 0.999 */
  readonly beta2?: number;
}

/** The learning rate of a step, which counts from 1. */
export function learningRate(step: number, { lr, warmup = 0 }: Pick<AdamWOptions, "lr" | "warmup">): number {
  return lr * Math.min(1, step / (warmup || 1));
}

/** A parameter and the state of its optimizer. The arrays have the same length. */
export interface AdamWParameter {
  readonly data: Float32Array;
  readonly gradient: Float32Array;
  /** Running mean of the gradients; zeros before the first step. */
  readonly mean: Float32Array;
  /** Running mean of the squared gradients; zeros before the first step. */
  readonly square: Float32Array;
}

const BETA1 = 0.9;
const EPSILON = 1e-8;

/**
 * Takes a step of AdamW (Loshchilov and Hutter 2019) with PyTorch's defaults, on the CPU: changes `data`, `mean` and
 * `square`.
 *
 * @param step counts from 1
 */
export function adamwStep(parameter: AdamWParameter, step: number, options: AdamWOptions): void {
  const { data, gradient, mean, square } = parameter, { weightDecay, beta2 = 0.999 } = options;
  const lr = learningRate(step, options);
  const decay = 1 - lr * weightDecay;
  const rate = lr / (1 - BETA1 ** step);
  const correction = Math.sqrt(1 - beta2 ** step);
  for (let i = 0; i < data.length; i++) {
    const g = gradient[i]!;
    mean[i] = BETA1 * mean[i]! + (1 - BETA1) * g;
    square[i] = beta2 * square[i]! + (1 - beta2) * g * g;
    data[i] = decay * data[i]! - rate * mean[i]! / (Math.sqrt(square[i]!) / correction + EPSILON);
  }
}

/**
 * Scales all gradients together so that their 2-norm is at most `most`.
 *
 * @returns the norm before scaling
 */
export function clipGradients(gradients: readonly Float32Array[], most: number): number {
  let sum = 0;
  for (const gradient of gradients) for (const g of gradient) sum += g * g;
  const norm = Math.sqrt(sum);
  // The small constant is PyTorch's.
  const scale = most / (norm + 1e-6);
  if (scale < 1) { for (const gradient of gradients) for (let i = 0; i < gradient.length; i++) gradient[i]! *= scale; }
  return norm;
}
