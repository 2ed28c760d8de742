import type { Tensor } from "../../gpu/tensor.ts";
import type { TensorOwner } from "../../gpu/tensor_owner.ts";
import type { EmbeddedPass, ForwardPass } from "../family.ts";

/** A forward pass between its embeddings and its projection. What it computed last is freed once it is not needed. */
export class RunningPass<Pass extends EmbeddedPass> {
  #x: Tensor;
  #kept = false;
  #released = false;

  /** @param owned takes the pass's tensors over */
  constructor(private readonly owned: TensorOwner, readonly input: ForwardPass, readonly pass: Pass) {
    owned.adopt([pass.x, ...pass.tensors]);
    this.#x = pass.x;
  }

  /** [batch, tokens, dim]: the output of the last block */
  get x(): Tensor {
    return this.#x;
  }

  /** Goes on to the output of a block, or of all that remain. */
  advance(x: Tensor): void {
    this.owned.adopt(x);
    this.release();
    this.#x = x;
    this.#kept = this.#released = false;
  }

  /** Frees what was computed last. A block may call it before it has its output. */
  release(): void {
    if (!this.#kept && !this.#released) this.owned.free(this.#x);
    this.#released = true;
  }

  /**
   * Asks the step cache for the result of all blocks from this one on, and goes on to it.
   *
   * @returns whether there was one: none of these blocks is to be run
   */
  async skipsFrom(layer: number, modulatedInput: () => Promise<Tensor | undefined>): Promise<boolean> {
    const { owned, pass } = this, lent: Tensor[] = [];
    const result = await this.input.cache?.remaining?.({
      ...{ layer, x: this.#x },
      modulatedInput: async () => {
        const modulated = await modulatedInput();
        if (modulated && !pass.tensors.includes(modulated)) lent.push(owned.adopt(modulated));
        return modulated;
      },
      keep: () => {
        this.#kept = true;
        return owned.disown(this.#x);
      },
    });
    owned.free(...lent);
    if (result) this.advance(result);
    return result !== undefined;
  }

  /** Frees the pass's tensors. */
  end(): void {
    this.release();
    this.owned.free(...this.pass.tensors);
  }
}
