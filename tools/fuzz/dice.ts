import { randomBits } from "../../model/training/random.ts";

/** A stream of random choices that is a function of its key. */
export class Dice {
  readonly #key: readonly number[];
  #drawn = 0;

  constructor(...key: readonly number[]) {
    this.#key = key;
  }

  /** A whole number from 0 to `size` − 1. */
  below(size: number): number {
    return randomBits(...this.#key, this.#drawn++) % size;
  }

  /** True once in `times` draws. */
  once(times: number): boolean {
    return this.below(times) === 0;
  }

  /** One of several. */
  of<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!;
  }
}
