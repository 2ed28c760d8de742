import type { Tape } from "./tape.ts";
import { Tensor } from "./tensor.ts";

/**
 * Computes the gradients of an op's inputs from the gradient of its output.
 *
 * @param dy gradient of the output, of the same shape; it must not be overwritten
 * @param wanted for each input, whether its gradient is needed
 * @returns a gradient for each wanted input, of its size; the other elements are ignored. It may return `dy` itself
 */
export type Backward = (dy: Tensor, wanted: readonly boolean[]) => readonly (Tensor | undefined)[];

/** Scopes free the tensors that are made in them, unless a tape needs them. `Gpu` extends this. */
export abstract class Scopes {
  #open: Set<Tensor>[] = [];
  #tape: Tape | undefined;

  /** Frees the memory of a tensor. */
  protected abstract free(tensor: Tensor): void;

  /** Adds a new tensor to the innermost scope. Without a scope, it belongs to the caller. */
  protected own(tensor: Tensor): void {
    this.#open.at(-1)?.add(tensor);
  }

  /**
   * Runs `work`, which records but does not wait. Then frees every tensor that it made, except those that it returns.
   * Returned tensors pass to the enclosing scope, or to the caller if there is none. While a tape is open, all tensors
   * pass to the enclosing scope.
   */
  scope<T extends Tensor | readonly Tensor[] | void>(work: () => T): T {
    const scope = this.#begin();
    let kept: readonly Tensor[] = [];
    try {
      const result = work();
      kept = result instanceof Tensor ? [result] : result ?? [];
      return result;
    } finally {
      this.#end(scope, kept);
    }
  }

  /**
   * As {@link scope}, for work that waits. Nothing else may use this `Gpu` meanwhile. All tensors of the work are
   * freed.
   */
  async waitingScope<T>(work: () => Promise<T>): Promise<T> {
    const scope = this.#begin();
    try {
      return await work();
    } finally {
      this.#end(scope, []);
    }
  }

  /**
   * Runs `work`, which records but does not wait, and returns every tensor made in it that was not freed. This is for
   * tensors that must outlive a wait, which no scope allows. The caller releases them.
   */
  collect<T>(work: () => T): { readonly result: T; readonly tensors: readonly Tensor[] } {
    const scope = this.#begin();
    try {
      return { result: work(), tensors: [...scope] };
    } catch (error) {
      for (const tensor of scope) this.free(tensor);
      throw error;
    } finally {
      this.#open.pop();
    }
  }

  /** Takes a tensor out of its scopes, so that it can outlive them. Its owner must release it; see `TensorOwner`. */
  keep(tensor: Tensor): Tensor {
    for (const scope of this.#open) {
      for (const owned of scope) if (owned.buffer === tensor.buffer) scope.delete(owned);
    }
    return tensor;
  }

  /**
   * Frees a tensor before its scope ends, or at the scope's end while a tape is open. Recorded work can still use it.
   */
  release(tensor: Tensor): void {
    if (!this.#tape) this.free(this.keep(tensor));
  }

  /** The tape that ops record on, while one is open. */
  get tape(): Tape | undefined {
    return this.#tape;
  }

  /**
   * Runs `work` with the tape open. Nothing is freed in it, because the backward pass needs it. It must be called in a
   * scope.
   */
  taping<T extends Tensor | readonly Tensor[] | void>(tape: Tape, work: () => T): T {
    if (this.#open.length === 0) throw new Error("taping without a scope would never be freed");
    return this.#with(tape, work);
  }

  /** Runs `work` with the tape closed. This is for work that records itself as one step, whatever ops it uses. */
  untaped<T>(work: () => T): T {
    return this.#with(undefined, work);
  }

  #with<T>(tape: Tape | undefined, work: () => T): T {
    const outer = this.#tape;
    this.#tape = tape;
    try {
      return work();
    } finally {
      this.#tape = outer;
    }
  }

  #begin(): Set<Tensor> {
    const scope = new Set<Tensor>();
    this.#open.push(scope);
    return scope;
  }

  #end(scope: ReadonlySet<Tensor>, kept: readonly Tensor[]): void {
    this.#open.pop();
    const keep = new Set(kept.map(({ buffer }) => buffer));
    const outer = this.#open.at(-1);
    for (const tensor of scope) {
      if (this.#tape || keep.has(tensor.buffer)) outer?.add(tensor);
      else this.free(tensor);
    }
  }
}
