import { aText, checkOptions, type Kinds } from "../../gpu/common/check_options.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { AttentionMethod, SelfAttention } from "../attention/method.ts";
import type { Distilled } from "../family.ts";
import { Passes } from "../attention/passes.ts";
import { densityOf } from "../attention/report.ts";
import { VsaAttention } from "./attention.ts";

/** The sparsity that FastWan's 1.3B model was distilled with. That of a model comes with its `Distilled`. */
export const DEFAULT_SPARSITY = 0.8;

/** Options of {@link vsaAttention}. */
export interface VsaOptions {
  /**
   * The share of tiles that a tile does not attend to, from 0 to 1: it attends to one at least. Default: {@link
   * DEFAULT_SPARSITY}
   */
  readonly sparsity?: number;
  /** Why it is used, where nobody asked for it: a clause that is noted. */
  readonly why?: string | undefined;
}

const VSA_KINDS: Kinds<VsaOptions> = {
  sparsity: {
    expected: "a number from 0 to 1",
    fits: (value) => typeof value === "number" && value >= 0 && value <= 1,
  },
  why: aText,
};

/** The attention of a distilled model; undefined where it has no other than full attention. */
export function distilledAttention({ name, sparsity }: Partial<Distilled> = {}): AttentionMethod | undefined {
  if (sparsity === undefined) return undefined;
  const why =
    `${name} was trained with video sparse attention at a sparsity of ${sparsity}, which is used because no ` +
    `other attention was asked for`;
  return vsaAttention({ sparsity, why });
}

/** Each tile attends to the tiles with the best scores, and with the model's gates to the means of all (VSA). */
export function vsaAttention(options: VsaOptions = {}): AttentionMethod {
  checkOptions("vsaAttention", options, VSA_KINDS);
  const { sparsity = DEFAULT_SPARSITY, why } = options;
  return {
    prepare(task) {
      const { gpu, shape, onNote } = task;
      if (why !== undefined) onNote?.(why);
      if (!shape.gated) {
        onNote?.(
          "this model has no gates (to_gate_compress) for video sparse attention, so the part of it that attends to " +
            "the means of tiles is left out",
        );
      }
      const passes = new Passes(task, (layout) => new VsaAttention(gpu, shape, layout, sparsity));
      const at = (pass: number): SelfAttention =>
        Object.assign(
          (q: Tensor, k: Tensor, v: Tensor, _layer: number, gate?: Tensor) => passes.of(pass).attend(q, k, v, gate),
          { takesGate: true },
        );
      return Promise.resolve({
        unobserved: true,
        at: (_, pass) => at(pass),
        report: (ran) => {
          const { pattern: { tiled, keep } } = passes.of(0), { tiles } = tiled;
          const density = densityOf(task, (_, pass) => passes.of(pass).pattern.pairs, ran);
          if (density < 1 || keep[0]! < tiles.length) return { density };
          const whyFull = sparsity === 0
            ? "a sparsity of 0 was requested"
            : `a clip of ${tiled.tokens} tokens has only ${tiles.length} ${tiles.length === 1 ? "tile" : "tiles"} of ` +
              `${tiled.capacity}, too few to leave one out`;
          return { density, whyFull };
        },
        [Symbol.dispose]: () => passes[Symbol.dispose](),
      });
    },
  };
}
