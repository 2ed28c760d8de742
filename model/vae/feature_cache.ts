import type { Gpu } from "../../gpu/gpu.ts";
import { convInputFormat } from "../../gpu/ops/conv3d.ts";
import { fill } from "../../gpu/ops/elementwise.ts";
import { packHalves } from "../../gpu/ops/pack_halves.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** Frames that a kernel of three frames sees of the past. */
export const PAST = 2;

/** What a causal convolution sees before the clip's first frame: zeros, or that frame again and again. */
export type Before = "zeros" | "first frame";

/** The input of a causal convolution: frames of the past and new ones, in a ring. */
export interface RingInput {
  /** [ring's frames, height, width, channels], in the format that convolutions read */
  readonly tensor: Tensor;
  /** As `conv3d` takes it. */
  readonly ring: { readonly first: number; readonly frames: number };
  /** Where the first of the new frames is to be written. Behind the tensor's end, they go on at its beginning. */
  readonly start: number;
}

interface Ring {
  readonly tensor: Tensor;
  /** The first frame of the past. */
  first: number;
}

/**
 * The last input frames of each causal convolution, in one pass over a clip. The first frames of a chunk depend on
 * them, so that the result is the same as for the whole clip at once. Each convolution has a ring of frames, so that none
 * is ever copied.
 */
export class FeatureCache {
  #rings = new Map<object, Ring>();
  /** The layers whose past awaits the clip's first frame. */
  #unfilled = new Set<object>();
  /** Made since the last {@link settle}: still the scope's. */
  #fresh = new Set<object>();

  constructor(private readonly gpu: Gpu, private readonly before: Before = "zeros") {}

  /**
   * Makes room for `frames` frames behind the past ones of `layer`. Once they are written, {@link written} must be
   * called.
   *
   * @param frame [height, width, channels]
   * @param most the most frames that will be given at once
   */
  extended(layer: object, frames: number, frame: readonly number[], most = frames, past = PAST): RingInput {
    const ring = this.#ringOf(layer, Math.max(frames, most), frame, past);
    const { tensor, first } = ring, length = tensor.dim(0);
    ring.first = (first + frames) % length;
    return { tensor, ring: { first, frames: past + frames }, start: (first + past) % length };
  }

  /** As {@link extended}, with the frames of `x`, which is f32. */
  extend(layer: object, x: Tensor, most?: number, past = PAST): RingInput {
    const { gpu } = this,
      input = this.extended(layer, x.dim(0), x.shape.slice(1), most, past),
      { tensor, start } = input;
    if (tensor.format.name === "f16") {
      packHalves(gpu, x, { into: tensor, start: start * x.rowSize });
    } else {
      const ahead = Math.min(x.dim(0), tensor.dim(0) - start), rest = x.dim(0) - ahead;
      gpu.copy(x.slice(0, ahead), tensor.slice(start, ahead));
      if (rest > 0) gpu.copy(x.slice(ahead, rest), tensor.slice(0, rest));
    }
    this.written(layer, input);
    return input;
  }

  /** Tells that the new frames are written. In the first chunk, past frames become {@link Before}. */
  written(layer: object, { tensor, ring, start }: RingInput): void {
    if (!this.#unfilled.delete(layer)) return;
    const { gpu } = this;
    gpu.scope(() => {
      const first = gpu.tensor([1, ...tensor.shape.slice(1)], tensor.format);
      gpu.copy(tensor.slice(start, 1), first);
      for (let frame = ring.first; frame < start; frame++) gpu.copy(first, tensor.slice(frame, 1));
    });
  }

  /** The tensors made since the last call, which the scope around a chunk must keep. */
  settle(): Tensor[] {
    const made = [...this.#fresh].map((layer) => this.#rings.get(layer)!.tensor);
    this.#fresh.clear();
    return made;
  }

  /** Frees what was settled; what was not, its scope frees. */
  release(): void {
    for (const [layer, { tensor }] of this.#rings) if (!this.#fresh.has(layer)) this.gpu.release(tensor);
    this.#rings.clear();
    this.#fresh.clear();
  }

  #ringOf(layer: object, frames: number, frame: readonly number[], past: number): Ring {
    const { gpu } = this, known = this.#rings.get(layer);
    if (known && known.tensor.dim(0) >= past + frames) return known;
    const tensor = gpu.tensor([past + frames, ...frame], convInputFormat(gpu)), made = { tensor, first: 0 };
    if (known) {
      for (let i = 0; i < past; i++) {
        gpu.copy(known.tensor.slice((known.first + i) % known.tensor.dim(0), 1), tensor.slice(i, 1));
      }
      gpu.release(known.tensor);
    } else if (this.before === "zeros") {
      fill(gpu, tensor.slice(0, past), 0);
    } else {
      this.#unfilled.add(layer);
    }
    this.#rings.set(layer, made);
    this.#fresh.add(layer);
    return made;
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
  /** The most latent frames of a chunk; what a layer is given, the most frames that it is given at once. */
  readonly most: number;
}
