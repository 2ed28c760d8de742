import type { Tensor } from "../../gpu/tensor.ts";
import type { TensorOwner } from "../../gpu/tensor_owner.ts";
import type { Target } from "./veda_file.ts";
import { type Dtype, WEIGHT_FORMATS } from "../checkpoint/dtype.ts";

/** A projection of one layer as it is stored: [heads, 3 · head dim, head dim]. */
export interface StoredProjection {
  readonly dtype: Dtype;
  /** Its size in bytes. */
  readonly data: Uint8Array;
}

/** P_q and P_k of one layer. */
export interface Projections<T> {
  readonly q: T;
  readonly k: T;
}

/** Makes both. */
export async function bothSides<T>(make: (side: "q" | "k") => Promise<T>): Promise<Projections<T>> {
  return { q: await make("q"), k: await make("k") };
}

/** What is added to the products of two tiles' vectors, so that a score is an estimate of the logarithm of mass. */
export interface ScoreTerms {
  /** ln of the number of the key tile's tokens. */
  readonly count: boolean;
  /** The second order: E[q²]·Var(k) / (2 · head dim), over the tokens of both tiles. */
  readonly second: boolean;
}

/** The paper's scores, which predict a maximum, have none. */
export const NO_TERMS: ScoreTerms = { count: false, second: false };

/**
 * With means as vectors, ln Σ exp(q·k/√D) over a pair of tiles, up to the second order: what a tile that is left out
 * takes away. The third order and the correlation of channels are not in it.
 */
export const MASS_TERMS: ScoreTerms = { count: true, second: true };

/** What is added to the scores that learn a target: a maximum hardly depends on the number of tokens. */
export function termsOf(target: Target): ScoreTerms {
  return target === "sum" ? MASS_TERMS : NO_TERMS;
}

/**
 * What tiles are scored by: a trained scorer; an estimate of mass by means, squares and variances, which needs no
 * training; means alone; or nothing, for comparison.
 */
export const TILE_SCORES = ["trained", "second-order", "mean", "random"] as const;
export type TileScores = typeof TILE_SCORES[number];

/** The scores of one layer. */
export interface LayerScores {
  /** Without them, vectors are means. */
  readonly projections?: Projections<Tensor> | undefined;
  readonly terms: ScoreTerms;
}

/** The trained part of Veda: for every layer and head, two matrices that compute a tile's vector from its features. */
export interface TileScorer {
  readonly heads: number;
  readonly headDim: number;
  /** By layer. */
  readonly layers: readonly Projections<StoredProjection>[];
  /** What the scores were trained with. Default: {@link NO_TERMS} */
  readonly terms?: ScoreTerms | undefined;
  /** As in `HeadShape`. */
  readonly layerPrefixes?: readonly string[] | undefined;
}

/** Uploads a scorer in its stored format. The tensors belong to `owner`. */
export function uploadScorer(owner: TensorOwner, { heads, headDim, layers }: TileScorer): Projections<Tensor>[] {
  const upload = ({ dtype, data }: StoredProjection) =>
    owner.adopt(owner.gpu.upload(data, [heads, 3 * headDim, headDim], WEIGHT_FORMATS[dtype]));
  return layers.map(({ q, k }) => ({ q: upload(q), k: upload(k) }));
}
