import type { TokenLayout } from "./layout.ts";
import type { AttentionTask } from "./method.ts";

/** One state of attention for each pass of a step; passes of one length share it. All are disposed of together. */
export class Passes<T extends Disposable> implements Disposable {
  readonly #byPass: readonly T[];
  readonly #held: DisposableStack;

  /** @param make makes what passes with this layout need */
  constructor({ layout, lengths }: Pick<AttentionTask, "layout" | "lengths">, make: (layout: TokenLayout) => T) {
    using building = new DisposableStack();
    const made = new Map([...new Set(lengths)].map((length) => [length, building.use(make({ ...layout, length }))]));
    this.#byPass = lengths.map((length) => made.get(length)!);
    this.#held = building.move();
  }

  of(pass: number): T {
    return this.#byPass[pass]!;
  }

  [Symbol.dispose](): void {
    this.#held.dispose();
  }
}
