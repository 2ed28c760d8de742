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
import type { CacheHooks, CacheStart, CacheTask, KeptByCache, PreparedCache } from "./step_cache.ts";

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

/** The state of a pass: a function that returns the hooks of each step. */
interface PassState {
  (step: number): CacheHooks;
  /** What it keeps for the next step, by names without the pass's. Absent where that is too much to be saved */
  kept?(): KeptByCache;
}

/**
 * Prepares a cache whose state belongs to one pass.
 *
 * @param start makes the state of a pass, with slots for its tensors; `from` is what it kept, if it is to go on
 */
export function perPass(
  { gpu, passes, from }: CacheTask,
  start: (slot: () => Slot, from: CacheStart | undefined) => PassState,
): PreparedCache {
  const owner = new TensorOwner(gpu);
  const states = new Map(passes.map((pass) => {
    const own = from && { tensors: ofPass(pass, from.tensors), numbers: ofPass(pass, from.numbers) };
    return [pass, start(() => new Slot(owner), own)];
  }));
  const all = [...states.values()].every(({ kept }) => kept !== undefined);
  return {
    at: (step, pass) => states.get(pass)!(step),
    ...all && { kept: () => together(new Map([...states].map(([pass, { kept }]) => [pass, kept!()]))) },
    [Symbol.dispose]: () => owner[Symbol.dispose](),
  };
}

/** What all passes keep: names are those of a pass behind the pass's. */
function together(kept: ReadonlyMap<PassName, KeptByCache>): KeptByCache {
  const named = <T>(pass: PassName, own: Readonly<Record<string, T>>) =>
    Object.entries(own).map(([name, value]) => [`${pass}.${name}`, value] as const);
  const numbers = [...kept].map(async ([pass, own]) => named(pass, await own.numbers));
  return {
    tensors: Object.fromEntries([...kept].flatMap(([pass, { tensors }]) => named(pass, tensors))),
    numbers: Promise.all(numbers).then((all) => Object.fromEntries(all.flat())),
  };
}

/** What belongs to a pass, by names without it. */
function ofPass<T>(pass: PassName, all: Readonly<Record<string, T>>): Record<string, T> {
  const own = Object.entries(all).filter(([name]) => name.startsWith(`${pass}.`));
  return Object.fromEntries(own.map(([name, value]) => [name.slice(pass.length + 1), value]));
}
