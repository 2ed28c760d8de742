import type { Gpu } from "../../gpu/gpu.ts";
import { convWeight } from "../../gpu/ops/conv3d.ts";
import type { WeightUse } from "../../gpu/kernels/conv3d/variants.ts";
import type { ConvWeight } from "../../gpu/ops/conv3d_weight.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { expectTensor, readFloat32, type TensorSource } from "../checkpoint/tensor_source.ts";
import { Linear } from "../layers/linear.ts";
import type { OnProgress } from "../progress.ts";

/** Channels are filled up with zeros to a multiple of 4, so that they can be read as vec4s. */
const padChannels = (channels: number): number => Math.ceil(channels / 4) * 4;

/** A convolution's weights on the GPU, both channel counts filled up. */
export interface Conv {
  /** [out, kernel frames, kernel height, kernel width, in] */
  readonly weight: ConvWeight;
  /** [out], f32 */
  readonly bias: Tensor;
}

/** The weights of a 1×1×1 convolution on the GPU, both channel counts filled up. */
export interface Pointwise {
  /** [out, in], f32 */
  readonly weight: Tensor;
  /** [out], f32 */
  readonly bias: Tensor;
}

/** What {@link VaeWeights.matrices} takes of a layer. */
export interface MatrixPart {
  /** First output channel. 0 where absent. */
  readonly start?: number;
  /** Multiplies weight and bias. 1 where absent. */
  readonly scale?: number;
}

/** Reads, checks, uploads and owns an autoencoder's weights, in the channels-last layout of the convolutions. */
export class VaeWeights implements Disposable {
  readonly #owned: TensorOwner;

  get gpu(): Gpu {
    return this.#owned.gpu;
  }

  /** @param onTensor is called after each tensor that was read */
  private constructor(gpu: Gpu, readonly source: TensorSource, private readonly onTensor: () => void) {
    this.#owned = new TensorOwner(gpu);
  }

  /**
   * The weights of a source, which stays open and the caller's.
   *
   * @param prefixes what the names of the tensors to load begin with
   * @param onProgress told "load vae", in tensors
   */
  static open(gpu: Gpu, source: TensorSource, prefixes: readonly string[], onProgress?: OnProgress): VaeWeights {
    const total = source.names().filter((name) => prefixes.some((prefix) => name.startsWith(prefix))).length;
    let done = 0;
    onProgress?.({ stage: "load vae", done, total });
    return new VaeWeights(gpu, source, () => onProgress?.({ stage: "load vae", done: ++done, total }));
  }

  /**
   * A convolution's `.weight` and `.bias`.
   *
   * @param kernel [frames, height, width]; two lengths for a 2D convolution
   * @param use the options of the convolution that the layout of weights depends on
   */
  async conv(name: string, cin: number, cout: number, kernel: readonly number[], use: WeightUse = {}): Promise<Conv> {
    const values = await this.#kernel(name, cin, cout, kernel), { gpu } = this;
    const shape = [padChannels(cout), ...kernel.length === 2 ? [1, ...kernel] : kernel, padChannels(cin)];
    const given = gpu.upload(values, shape), weight = convWeight(gpu, given, use);
    this.#owned.adopt(weight.tensor);
    if (weight.tensor !== given) gpu.release(given);
    return { weight, bias: this.#vector(await this.#read(`${name}.bias`, [cout])) };
  }

  /** A 1×1×1 convolution's `.weight` and `.bias`. */
  async pointwise(name: string, cin: number, cout: number): Promise<Pointwise> {
    const values = await this.#kernel(name, cin, cout, [1, 1, 1]);
    const weight = this.#upload(values, [padChannels(cout), padChannels(cin)]);
    return { weight, bias: this.#vector(await this.#read(`${name}.bias`, [cout])) };
  }

  /**
   * Parts of the output channels of a linear layer, or of a 1×1 convolution with this kernel; each `dim` of them as a
   * linear layer.
   */
  async matrices(
    name: string,
    dim: number,
    parts: readonly MatrixPart[],
    kernel: readonly number[] = [],
  ): Promise<Linear[]> {
    const total = parts.length * dim;
    const values = await this.#read(`${name}.weight`, [total, dim, ...kernel]);
    const biases = await this.#read(`${name}.bias`, [total]);
    const padded = padChannels(dim);
    return parts.map(({ start = 0, scale = 1 }) => {
      const weight = new Float32Array(padded * padded), bias = new Float32Array(dim);
      for (let n = 0; n < dim; n++) {
        bias[n] = biases[start + n]! * scale;
        for (let c = 0; c < dim; c++) weight[n * padded + c] = values[(start + n) * dim + c]! * scale;
      }
      return new Linear(this.#upload(weight, [padded, padded]), this.#vector(bias));
    });
  }

  /** A norm's `.gamma`, [dim, 1, …] with so many ones. */
  async gamma(name: string, dim: number, ones: number): Promise<Tensor> {
    return this.#vector(await this.#read(`${name}.gamma`, [dim, ...Array(ones).fill(1)]));
  }

  /** A norm's `.weight` and `.bias`, [dim]. */
  async affine(name: string, dim: number): Promise<{ gamma: Tensor; beta: Tensor }> {
    const gamma = this.#vector(await this.#read(`${name}.weight`, [dim]));
    return { gamma, beta: this.#vector(await this.#read(`${name}.bias`, [dim])) };
  }

  [Symbol.dispose](): void {
    this.#owned[Symbol.dispose]();
  }

  async #read(name: string, shape: readonly number[]): Promise<Float32Array> {
    expectTensor(this.source, name, shape);
    const values = await readFloat32(this.source, name);
    this.onTensor();
    return values;
  }

  /** A convolution's weight as [out, taps, in], both channel counts filled up. */
  async #kernel(name: string, cin: number, cout: number, kernel: readonly number[]): Promise<Float32Array> {
    const values = await this.#read(`${name}.weight`, [cout, cin, ...kernel]);
    const taps = kernel.reduce((a, b) => a * b);
    const columns = padChannels(cin);
    const weight = new Float32Array(padChannels(cout) * taps * columns);
    // A tap at a time, so that what is written lies side by side: half the time of the other way round.
    for (let n = 0; n < cout; n++) {
      for (let k = 0; k < taps; k++) {
        const from = n * cin * taps + k, to = (n * taps + k) * columns;
        for (let c = 0; c < cin; c++) weight[to + c] = values[from + c * taps]!;
      }
    }
    return weight;
  }

  #vector(values: Float32Array): Tensor {
    const padded = new Float32Array(padChannels(values.length));
    padded.set(values);
    return this.#upload(padded, [padded.length]);
  }

  #upload(values: Float32Array, shape: readonly number[]): Tensor {
    return this.#owned.adopt(this.#owned.gpu.upload(values, shape));
  }
}
