import type { Dice } from "./dice.ts";

/** A kind of input from outside, and the code that reads it. */
export interface FuzzTarget {
  /** What is read, for the table. */
  readonly reads: string;
  /**
   * Prepares valid inputs.
   *
   * @param folder an empty folder of its own
   * @returns reads a mutated input that is a function of the dice: it returns, or throws a `TilereelError`
   */
  open(folder: string): Promise<(dice: Dice) => Promise<unknown>>;
  /** Inputs at the edges of what is possible, and those that were found, by what they are. Each must be refused. */
  readonly extremes?: Readonly<Record<string, (folder: string) => Promise<unknown>>>;
}
