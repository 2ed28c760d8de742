import type { Gpu } from "../../gpu/gpu.ts";
import { fill } from "../../gpu/ops/elementwise.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** Frames that a kernel of three frames sees of the past. */
export const PAST = 2;

/** What a causal convolution sees before the clip's first frame: zeros, or that frame again and again. */
export type Before = "zeros" | "first frame";

/**
 * The last input frames of each causal convolution, in one pass over a clip. The first frames of a chunk depend on
 * them, so that the result is the same as for the whole clip at once.
 */
export class FeatureCache {
  #past = new Map<object, Tensor>();
  /** The layers whose past awaits the clip's first frame. */
  #unfilled = new Set<object>();
  /** Made since the last {@link settle}: still the scope's. */
  #fresh = new Set<object>();

  constructor(private readonly gpu: Gpu, private readonly before: Before = "zeros") {}

  /**
   * A new tensor with room for `frames` frames behind the past ones of `layer`, which it begins with. Once the frames
   * are written, {@link keep} must be called, before the past ones are read.
   *
   * @param frame [height, width, channels]
   */
  extended(layer: object, frames: number, frame: readonly number[], past = PAST): Tensor {
    const { gpu } = this;
    const x = gpu.tensor([past + frames, ...frame]);
    const before = this.#past.get(layer);
    const start = x.slice(0, past);
    if (before) gpu.copy(before, start);
    else if (this.before === "zeros") fill(gpu, start, 0);
    else this.#unfilled.add(layer);
    return x;
  }

  /** As {@link extended}, with the frames of `x`; they are kept. */
  extend(layer: object, x: Tensor, past = PAST): Tensor {
    const y = this.extended(layer, x.dim(0), x.shape.slice(1), past);
    this.gpu.copy(x, y.slice(past, x.dim(0)));
    this.keep(layer, y, past);
    return y;
  }

  /** Remembers the last frames of `x` for the next chunk. In the first chunk, its past ones become {@link Before}. */
  keep(layer: object, x: Tensor, past = PAST): void {
    const { gpu } = this;
    let kept = this.#past.get(layer);
    if (this.#unfilled.delete(layer)) {
      gpu.scope(() => {
        const first = gpu.tensor([1, ...x.shape.slice(1)]);
        gpu.copy(x.slice(past, 1), first);
        for (let frame = 0; frame < past; frame++) gpu.copy(first, x.slice(frame, 1));
      });
    }
    if (!kept) {
      kept = gpu.tensor([past, ...x.shape.slice(1)]);
      this.#past.set(layer, kept);
      this.#fresh.add(layer);
    }
    gpu.copy(x.slice(x.dim(0) - past, past), kept);
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
