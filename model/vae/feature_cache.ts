import type { Gpu } from "../../gpu/gpu.ts";
import { fill } from "../../gpu/ops/elementwise.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** Frames that a kernel of three frames sees of the past. */
export const PAST = 2;

/**
 * The last input frames of each causal convolution, in one pass over a clip. The first frames of a chunk depend on
 * them, so that the result is the same as for the whole clip at once. Before the clip, all is zero.
 */
export class FeatureCache {
  #past = new Map<object, Tensor>();
  /** Made since the last {@link settle}: still the scope's. */
  #fresh = new Set<object>();

  constructor(private readonly gpu: Gpu) {}

  /**
   * A new tensor with room for `frames` frames behind the past ones of `layer`, which it begins with. Once the frames
   * are written, {@link keep} must be called.
   *
   * @param frame [height, width, channels]
   */
  extended(layer: object, frames: number, frame: readonly number[], past = PAST): Tensor {
    const { gpu } = this;
    const x = gpu.tensor([past + frames, ...frame]);
    const before = this.#past.get(layer);
    const start = x.slice(0, past);
    if (before) gpu.copy(before, start);
    else fill(gpu, start, 0);
    return x;
  }

  /** As {@link extended}, with the frames of `x`; they are kept. */
  extend(layer: object, x: Tensor, past = PAST): Tensor {
    const y = this.extended(layer, x.dim(0), x.shape.slice(1), past);
    this.gpu.copy(x, y.slice(past, x.dim(0)));
    this.keep(layer, y, past);
    return y;
  }

  /** Remembers the last frames of `x` for the next chunk. */
  keep(layer: object, x: Tensor, past = PAST): void {
    let kept = this.#past.get(layer);
    if (!kept) {
      kept = this.gpu.tensor([past, ...x.shape.slice(1)]);
      this.#past.set(layer, kept);
      this.#fresh.add(layer);
    }
    this.gpu.copy(x.slice(x.dim(0) - past, past), kept);
  }

  /** The tensors made since the last call, which the scope around a chunk must keep. */
  settle(): Tensor[] {
    const made = [...this.#fresh].map((layer) => this.#past.get(layer)!);
    this.#fresh.clear();
    return made;
  }

  /** Frees what was settled; what was not, its scope frees. */
  release(): void {
    for (const [layer, tensor] of this.#past) if (!this.#fresh.has(layer)) this.gpu.release(tensor);
    this.#past.clear();
    this.#fresh.clear();
  }
}

/** What blocks run in. */
export interface Pass {
  readonly gpu: Gpu;
  readonly cache: FeatureCache;
  /** The clip's first chunk, which is its first frame: nothing is doubled or halved in time. */
  readonly first: boolean;
  /** Bytes that one tensor may take before frames are worked on in smaller groups. */
  readonly pieceBytes: number;
}
