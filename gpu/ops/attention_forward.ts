import type { Gpu } from "../gpu.ts";
import type { KernelSource } from "../kernel.ts";
import type { ForwardCall } from "../kernels/attention/forward.ts";
import { attentionMatrix } from "../kernels/attention/matrix.ts";
import { PACK_THREADS, packKeys } from "../kernels/attention/pack.ts";
import { attentionPlain } from "../kernels/attention/plain.ts";
import { attentionTiled } from "../kernels/attention/tiled.ts";
import { forwardRows, type ForwardVariant } from "../kernels/attention/variants.ts";
import type { Tensor } from "../tensor.ts";
import { type AttentionPattern, launchAttention, orderStride } from "./attention_launch.ts";
import { chosenHeads } from "../kernels/chosen_heads.ts";

/** The operands; for their shapes see `attention`. */
export interface ForwardTensors {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly bias?: Tensor | undefined;
  readonly keyLengths?: Tensor | undefined;
  readonly y: Tensor;
  readonly lse?: Tensor | undefined;
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
  const { q, bias, keyLengths, y, lse } = tensors;
  const { plan, heads } = pattern;
  const headDim = q.dim(-1) / heads, rows = forwardRows(variant, headDim);
  const call = { headDim, bias: bias !== undefined, plan: plan !== undefined, lse: lse !== undefined };
  const launch = (k: Tensor, v: Tensor) =>
    launchAttention(gpu, {
      kernel: kernelOf(variant, call),
      ...{ pattern, list: plan?.queries, rows, blockRows: rows, outer: q, inner: k.dim(1) },
      buffers: { q, k, v, ...bias && { bias }, key_lengths: keyLengths ?? gpu.placeholder, y, ...lse && { lse } },
      params: { has_lengths: keyLengths ? 1 : 0 },
    });
  if (!variant || variant.kernel === "tiled" && !variant.tile.f16) return launch(tensors.k, tensors.v);
  // Packed operands are freed after recording, even while a tape is open.
  gpu.untaped(() =>
    gpu.scope(() => {
      const [batch, tokens] = tensors.k.shape as [number, number, number];
      const { chosen, head_ids, params } = chosenHeads(gpu, pattern);
      const slots = plan?.keySlots ?? plan?.order.dim(1) ?? tokens;
      const [k, v] = [0, 1].map(() => gpu.tensor([batch, slots, chosen * headDim], "f16")) as [Tensor, Tensor];
      gpu.run(packKeys({ headDim, plan: call.plan }), {
        buffers: {
          ...{ k: tensors.k, v: tensors.v, packed_k: k, packed_v: v, head_ids },
          ...plan && { order: plan.order },
        },
        params: { ...params, tokens, rows: slots, order_stride: plan ? orderStride(plan) : 0 },
        workgroups: [Math.ceil(slots * headDim / 8 / PACK_THREADS), chosen, batch],
      });
      launch(k, v);
    })
  );
}

function kernelOf(variant: ForwardVariant | undefined, call: ForwardCall): KernelSource {
  if (!variant) return attentionPlain(call);
  return variant.kernel === "matrix"
    ? attentionMatrix({ ...call, tile: variant.tile })
    : attentionTiled({ ...call, tile: variant.tile });
}
