import type { Tensor } from "../../gpu/tensor.ts";
import type { TensorOwner } from "../../gpu/tensor_owner.ts";
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

/** The trained part of Veda: for every layer and head, two matrices that compute a tile's vector from its features. */
export interface TileScorer {
  readonly heads: number;
  readonly headDim: number;
  /** By layer. */
  readonly layers: readonly Projections<StoredProjection>[];
  /** As in `HeadShape`. */
  readonly layerPrefixes?: readonly string[] | undefined;
}

/** Uploads a scorer in its stored format. The tensors belong to `owner`. */
export function uploadScorer(owner: TensorOwner, { heads, headDim, layers }: TileScorer): Projections<Tensor>[] {
  const upload = ({ dtype, data }: StoredProjection) =>
    owner.adopt(owner.gpu.upload(data, [heads, 3 * headDim, headDim], WEIGHT_FORMATS[dtype]));
  return layers.map(({ q, k }) => ({ q: upload(q), k: upload(k) }));
}
