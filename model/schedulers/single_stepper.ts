import { checkKept } from "./kept.ts";
import type { Stepper, StepperStart, TensorOps, Term } from "./scheduler.ts";

/** One step of a sampler. */
export interface Step<T> {
  /** The share of noise before the step, and after it. */
  readonly sigma: number;
  readonly next: number;
  readonly velocity: T;
  readonly sample: T;
}

/** A run of a sampler that keeps nothing from one step to the next. */
export class SingleStepper<T> implements Stepper<T> {
  readonly kept: Readonly<Record<string, never>> = {};
  #index: number;

  /** @param terms of the sum that a step ends in; their tensors are released after it */
  constructor(
    private readonly sigmas: Float32Array,
    private readonly ops: TensorOps<T>,
    from: StepperStart<T> = { step: 0, kept: {} },
    private readonly terms: (step: Step<T>) => readonly Term<T>[],
  ) {
    checkKept(from.kept, []);
    this.#index = from.step;
  }

  step(velocity: T, sample: T): T {
    const sigma = this.sigmas[this.#index]!, next = this.sigmas[this.#index + 1];
    if (next === undefined) throw new RangeError(`all ${this.#index} steps have been taken`);
    this.#index++;
    const terms = this.terms({ sigma, next, velocity, sample }), stepped = this.ops.combine(terms);
    for (const [, tensor] of terms) this.ops.release(tensor);
    return stepped;
  }
}
