import type { Gpu } from "../../gpu/gpu.ts";
import { tileAgreement } from "../../gpu/ops/tile_agreement.ts";
import { readTogether } from "../../gpu/read_together.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import type { SelectedTiles } from "../attention/method.ts";

/** Layers that are looked at, spread evenly: their selections are held from step to step. */
const MOST_LAYERS = 8;

/** The selections of a layer in a pass: those of the step that was last seen, and of the step before it. */
interface LastSteps {
  step: number;
  now: SelectedTiles[];
  before: SelectedTiles[];
}

/**
 * Measures how much the selected tiles of a clip change from one step to the next: what moves here shows as flicker.
 * Heads count where they select tiles in both steps. It holds GPU memory until it is disposed of.
 */
export class MaskChurn implements Disposable {
  readonly #owner: TensorOwner;
  /** By pass and layer. */
  readonly #last = new Map<string, LastSteps>();
  readonly #found: { readonly agreement: Tensor; readonly counts: readonly boolean[] }[] = [];

  /** @param layers the number of the model's layers */
  constructor(private readonly gpu: Gpu, private readonly layers: number) {
    this.#owner = new TensorOwner(gpu);
  }

  /** For `onTiles` of `AttentionTask`. */
  readonly observe = (selected: SelectedTiles): void => {
    const { step, pass, layer, heads, only, runs, layout, budget } = selected;
    if (layer % Math.ceil(this.layers / MOST_LAYERS) !== 0) return;
    const { now, before } = this.#at(`${pass} ${layer}`, step);
    for (const other of before) {
      if (other.layout !== layout) continue;
      const agreement = tileAgreement(this.gpu, runs, other.runs, undefined, layout, budget, only);
      this.#owner.adopt(agreement);
      this.#found.push({ agreement, counts: heads.map((head) => other.heads.includes(head)) });
    }
    this.#owner.adopt(runs);
    now.push(selected);
  };

  /** The selections so far, brought forward to a step. */
  #at(id: string, step: number): LastSteps {
    let last = this.#last.get(id);
    if (!last) this.#last.set(id, last = { step, now: [], before: [] });
    if (last.step === step) return last;
    const kept = last.step === step - 1 ? last.now : [];
    for (const { runs } of [...last.before, ...last.now]) {
      if (!kept.some((k) => k.runs === runs)) this.#owner.free(runs);
    }
    return Object.assign(last, { step, now: [], before: kept });
  }

  /**
   * The share of the selected tiles, without each row's own, that were not selected in the step before. It is undefined
   * where no two steps in a row select tiles. It waits for the GPU.
   */
  async read(): Promise<number | undefined> {
    const numbers = await readTogether(this.gpu, this.#found.map(({ agreement }) => agreement));
    let both = 0, all = 0;
    for (const [i, { counts }] of this.#found.entries()) {
      for (const [head, isCounted] of counts.entries()) {
        if (!isCounted) continue;
        both += numbers[i]![4 * head]!;
        all += numbers[i]![4 * head + 1]!;
      }
    }
    return all === 0 ? undefined : 1 - both / all;
  }

  [Symbol.dispose](): void {
    this.#owner[Symbol.dispose]();
  }
}
