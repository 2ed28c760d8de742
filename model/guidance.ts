/** The names of passes. What belongs to one pass only (a profile, a cache, a router's state) is kept by them. */
export const PASS_NAMES = ["prompt", "negative prompt"] as const;
/** One of {@link PASS_NAMES}: the prompt that a pass is conditioned on. */
export type PassName = typeof PASS_NAMES[number];

/** One of the forward passes of each step. Guidance is a weighted sum of their predictions. */
export interface GuidedPass {
  readonly name: PassName;
  /** Multiplies its prediction. A step's velocity is the sum; the weights of all passes sum to 1. */
  readonly weight: number;
  /** Its weight below a timestep, where another transformer with another scale takes over. */
  readonly low?: { readonly below: number; readonly weight: number };
  /** What its conditioning holds beside the prompt: the scale, where a model was trained to be told it. */
  readonly embedded?: { readonly guidance: number };
}

/** What a pass is conditioned on: a prompt's conditioning, and what the pass embeds beside it. */
export function conditionedBy<Prompt extends object>(pass: GuidedPass, prompt: Prompt): Prompt {
  return { ...prompt, ...pass.embedded };
}

/** Classifier-free guidance: the prediction is led away from that of the negative prompt. No second pass at 1 and below. */
export function classifierFreeGuidance(scale: number): readonly GuidedPass[] {
  if (scale <= 1) return [{ name: "prompt", weight: 1 }];
  return [{ name: "prompt", weight: scale }, { name: "negative prompt", weight: 1 - scale }];
}

/**
 * Classifier-free guidance with another scale at low noise. There is a second pass at all steps or at none, as the scale
 * at high noise says.
 *
 * @param below the timestep at which noise becomes low
 */
export function guidanceOfTwo(scale: number, low: number, below: number): readonly GuidedPass[] {
  const passes = classifierFreeGuidance(scale);
  if (passes.length === 1) return passes;
  return passes.map((pass, i) => ({ ...pass, low: { below, weight: i === 0 ? low : 1 - low } }));
}

/** The weight of a pass at a timestep. */
export function weightAt({ weight, low }: GuidedPass, timestep: number): number {
  return low && timestep < low.below ? low.weight : weight;
}

/** Guidance that a model was distilled from: it is told the scale, and needs no second pass. */
export function embeddedGuidance(scale: number): readonly GuidedPass[] {
  return [{ name: "prompt", weight: 1, embedded: { guidance: scale } }];
}
