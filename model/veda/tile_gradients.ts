import type { Gpu } from "../../gpu/gpu.ts";
import { sumRows } from "../../gpu/ops/sum_rows.ts";
import { tileAgreement } from "../../gpu/ops/tile_agreement.ts";
import { tileHeat } from "../../gpu/ops/tile_heat.ts";
import { retainedLoss } from "../../gpu/ops/tile_retained.ts";
import { projectionGradients, tileLoss } from "../../gpu/ops/tile_loss.ts";
import { poolTiles } from "../../gpu/ops/tile_pooling.ts";
import { joinTileVectors, projectTiles, tileScores } from "../../gpu/ops/tile_scores.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { HeadShape } from "../attention/layout.ts";
import type { AttentionState } from "./sampling_states.ts";
import type { Projections, ScoreTerms } from "./scorer.ts";
import type { TilePattern } from "./tile_pattern.ts";
import type { TileLoss } from "./training_options.ts";
import type { Target } from "./veda_file.ts";

/** The figures of the heads that share a shape. */
export interface TileFigures {
  /** [heads of the group, 1], f32: the loss summed over the query tiles */
  readonly loss: Tensor;
  /** [heads of the group, 4], f32: see `tileAgreement`; the teacher is the oracle */
  readonly agreement: Tensor;
}

/** The scores in training. */
export interface TrainedScores {
  readonly projections: Projections<Tensor>;
  readonly terms: ScoreTerms;
  readonly target: Target;
  readonly loss: TileLoss;
}

/**
 * Records what the scorer of the heads that share a shape learns from the layer's full attention: the loss, its
 * gradients, and how well the selected tiles agree with the teacher's.
 *
 * The gradients are of the mean over query tiles, separately for each head. The reported loss is also averaged over
 * heads and layers. But every head has its own parameters, and AdamW takes the same step however a gradient is scaled,
 * unless it comes close to its epsilon, as a fraction of a large model's loss would.
 *
 * @param gradients receives the gradients of the group's heads
 */
export function tileGradients(
  gpu: Gpu,
  { q, k, lse }: Pick<AttentionState, "q" | "k" | "lse">,
  { heads, headDim }: HeadShape,
  pattern: TilePattern,
  { only }: { readonly only: Tensor | undefined },
  { projections, terms, target, loss }: TrainedScores,
  gradients: Projections<Tensor>,
): TileFigures {
  const { layout, budget } = pattern, by = { heads, headDim, only };
  // The terms that are added are constants, so that gradients are those of the products of vectors.
  const scoresOf = (vectorsQ: Tensor, vectorsK: Tensor) => {
    const rowsOf = terms.count ? layout.tiles : undefined;
    if (!terms.second) return tileScores(gpu, vectorsQ, vectorsK, { ...by, rowsOf });
    const squares = poolTiles(gpu, q, heads, layout, only, ["square"]);
    const variances = poolTiles(gpu, k, heads, layout, only, ["variance"]);
    const wideQ = joinTileVectors(gpu, vectorsQ, squares, by), wideK = joinTileVectors(gpu, vectorsK, variances, by);
    return tileScores(gpu, wideQ, wideK, { ...by, width: 2 * headDim, rowsOf });
  };
  const [total, agreement] = gpu.scope(() => {
    const featuresQ = poolTiles(gpu, q, heads, layout, only), featuresK = poolTiles(gpu, k, heads, layout, only);
    const predictedQ = projectTiles(gpu, featuresQ, projections.q, heads, only);
    const predictedK = projectTiles(gpu, featuresK, projections.k, heads, only);
    const scores = gpu.scope(() => scoresOf(predictedQ, predictedK));
    const heat = tileHeat(gpu, q, k, lse, { heads, layout, only });
    const teacher = heat[target], weight = 1 / scores.dim(1);
    const { rows, gradient } = loss === "kl"
      ? tileLoss(gpu, scores, teacher, weight, only)
      : retainedLoss(gpu, scores, teacher, budget, weight, only);
    const scored = { featuresQ, featuresK, predictedQ, predictedK };
    projectionGradients(gpu, gradient, scored, 1 / Math.sqrt(headDim), gradients, only);
    const picked = pattern.select(scores, only), oracle = pattern.select(teacher, only);
    return [sumRows(gpu, rows), tileAgreement(gpu, picked, oracle, heat.sum, layout, budget, only)] as const;
  });
  return { loss: total, agreement };
}
