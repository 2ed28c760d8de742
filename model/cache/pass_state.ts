/**
 * What step caches keep from one step to the next. What one pass computed is never used by another.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { combine } from "../../gpu/ops/combine.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import type { PassName } from "../guidance.ts";
import type { CacheHooks, CacheTask, PreparedCache } from "./step_cache.ts";

/** Holds at most one tensor, which outlives the hooks. */
export class Slot {
  #tensor: Tensor | undefined;

  constructor(private readonly owner: TensorOwner) {}

  /** The tensor that is held. It stays the slot's. */
  get tensor(): Tensor | undefined {
    return this.#tensor;
  }

  /** Takes a tensor over, and frees the one before. */
  set(tensor: Tensor): void {
    this.clear();
    this.#tensor = this.owner.adopt(tensor);
  }

  /** Moves another slot's tensor here. */
  takeFrom(other: Slot): void {
    const tensor = other.#tensor;
    other.#tensor = undefined;
    if (tensor) this.set(tensor);
  }

  /** Frees the tensor. */
  clear(): void {
    if (this.#tensor) this.owner.free(this.#tensor);
    this.#tensor = undefined;
  }
}

/** What blocks added to their input in the last step that ran them. */
export class AddedByBlocks {
  readonly #input: Slot;
  readonly #added: Slot;

  constructor(private readonly gpu: Gpu, slot: () => Slot) {
    [this.#input, this.#added] = [slot(), slot()];
  }

  /** Whether the blocks were run. */
  get isKnown(): boolean {
    return this.#added.tensor !== undefined;
  }

  /** The result of the blocks if they add the same again: a new tensor. */
  again(x: Tensor): Tensor {
    return this.gpu.scope(() => combine(this.gpu, [[1, x], [1, this.#added.tensor!]]));
  }

  /** Takes the input of blocks over that are about to run. */
  begin(x: Tensor): void {
    this.#added.clear();
    this.#input.set(x);
  }

  /** Is shown the output of the blocks. */
  end(x: Tensor): void {
    this.#added.set(this.gpu.scope(() => combine(this.gpu, [[1, x], [-1, this.#input.tensor!]])));
    this.#input.clear();
  }
}

/**
 * Prepares a cache whose state belongs to one pass.
 *
 * @param start makes the state of a pass, with slots for its tensors, and returns the hooks of each step
 */
export function perPass(
  { gpu, passes }: CacheTask,
  start: (slot: () => Slot, pass: PassName) => (step: number) => CacheHooks,
): PreparedCache {
  const owner = new TensorOwner(gpu);
  const states = new Map(passes.map((pass) => [pass, start(() => new Slot(owner), pass)]));
  return {
    at: (step, pass) => states.get(pass)!(step),
    [Symbol.dispose]: () => owner[Symbol.dispose](),
  };
}
