import type { Gpu } from "../gpu.ts";
import type { KernelSource } from "../kernel.ts";
import type { ForwardCall } from "../kernels/attention/forward.ts";
import { attentionDot } from "../kernels/attention/dot.ts";
import { attentionMatrix } from "../kernels/attention/matrix.ts";
import { attentionPlain } from "../kernels/attention/plain.ts";
import { attentionTiled } from "../kernels/attention/tiled.ts";
import { forwardRows, type ForwardVariant } from "../kernels/attention/variants.ts";
import { isSamePlace, type Tensor } from "../tensor.ts";
import { type AttentionPattern, launchAttention } from "./attention_launch.ts";
import { isHalves, packedHalves, packedInt8, packedValues } from "./attention_pack.ts";
import { type Operand, PackedOperand } from "./packed_operand.ts";
import { sumRows } from "./sum_rows.ts";

/** The operands; for their shapes see `attention`. */
export interface ForwardTensors {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly bias?: Tensor | undefined;
  readonly keyLengths?: Tensor | undefined;
  readonly y: Operand;
  readonly lse?: Tensor | undefined;
  /** The number of keys that the last one stands for. Default: 1 */
  readonly lastKeys?: number | undefined;
}

/**
 * Records the forward pass.
 *
 * @param variant how to compute it; undefined is the plain kernel. A plan's blocks must be of its size, or shorter
 */
export function runForward(
  gpu: Gpu,
  variant: ForwardVariant | undefined,
  pattern: AttentionPattern,
  tensors: ForwardTensors,
): void {
  const { q, bias, keyLengths, y, lse, lastKeys = 1 } = tensors, repeats = lastKeys > 1;
  const { plan, heads, only } = pattern;
  const headDim = q.dim(-1) / heads, rows = forwardRows(variant, headDim);
  const [output, into] = y instanceof PackedOperand ? [y.tensor, y.form.panel] : [y];
  if (into && variant?.kernel !== "matrix") throw new Error("attention: these kernels write no packed operand");
  const call = { headDim, bias: bias !== undefined, plan: plan !== undefined, lse: lse !== undefined, repeats, into };
  const launch = (
    { q: queries, ...operands }: Readonly<Record<"q" | "k" | "v", Tensor>> & Readonly<Record<string, Tensor>>,
    params: Readonly<Record<string, number>> = {},
  ) => {
    const inPlace = isSamePlace(queries, output);
    launchAttention(gpu, {
      kernel: kernelOf(variant, { ...call, inPlace }),
      ...{ pattern, list: plan?.queries, rows, blockRows: rows, outer: q, inner: operands.k.dim(-2) },
      buffers: {
        ...!inPlace && { q: queries },
        ...operands,
        ...bias && { bias },
        key_lengths: keyLengths ?? gpu.placeholder,
        y: output,
        ...lse && { lse },
      },
      params: { ...params, has_lengths: keyLengths ? 1 : 0, ...repeats && { repeats: Math.log2(lastKeys) } },
    });
  };
  if (isHeld(tensors.k) !== isHeld(tensors.v) || isHeld(tensors.k) && !(holdsHalves(variant) && !plan && !only)) {
    throw new Error("attention: keys and values are held for other kernels");
  }
  if (isHalves(tensors.v) && !packsHalves(variant)) throw new Error("attention: these kernels take no values in f16");
  if (isHeld(tensors.k) || !variant || variant.kernel === "tiled" && !variant.tile.f16) {
    return launch({ q, k: tensors.k, v: tensors.v });
  }
  // Packed operands are freed after recording, even while a tape is open.
  gpu.untaped(() =>
    gpu.scope(() => {
      // Shifting all keys by their mean adds the same number to all scores of a query, so their softmax is the same. Scores
      // that are rounded are then smaller.
      const exact = variant.kernel === "tiled" || variant.kernel === "matrix" && variant.tile.sums === "f32";
      const shift = exact || lse ? undefined : sumRows(gpu, tensors.k, pattern);
      if (exact || variant.kernel === "matrix" && variant.tile.sums === "f16") {
        const [k, v] = packedHalves(gpu, pattern, [{ x: tensors.k, shift }, { x: tensors.v }]);
        return launch({ q, k: k!, v: v! });
      }
      const { scale = 1 / Math.sqrt(headDim) } = pattern;
      const values = variant.kernel === "dot"
        ? packedValues(gpu, pattern, tensors.v)
        : { y: packedHalves(gpu, pattern, [{ x: tensors.v }])[0]!, scales: undefined };
      const queries = packedInt8(gpu, pattern, q, { factor: scale * Math.LOG2E, more: rows });
      const keys = packedInt8(gpu, pattern, tensors.k, { rows: values.y.dim(2), shift });
      launch(
        {
          ...{ q: queries.y, k: keys.y, v: values.y, q_scales: queries.scales, k_scales: keys.scales },
          ...values.scales && { v_scales: values.scales },
        },
        { query_rows: queries.y.dim(2) },
      );
    })
  );
}

/** Whether these are keys or values as `heldKeys` makes them. */
export const isHeld = ({ shape }: Tensor): boolean => shape.length === 4;

/** Whether a variant packs values in f16. */
export const packsHalves = (variant: ForwardVariant | undefined): boolean =>
  holdsHalves(variant) || variant?.kernel === "matrix";

/** Whether a variant holds keys and values in f16, as they are. */
export const holdsHalves = (variant: ForwardVariant | undefined): boolean =>
  variant?.kernel === "tiled" && variant.tile.f16 || variant?.kernel === "matrix" && variant.tile.sums === "f32";

function kernelOf(variant: ForwardVariant | undefined, call: ForwardCall): KernelSource {
  if (!variant) return attentionPlain(call);
  const { kernel, tile } = variant;
  if (kernel === "matrix") return attentionMatrix({ ...call, tile });
  return kernel === "dot" ? attentionDot({ ...call, tile }) : attentionTiled({ ...call, tile });
}
