import type { Gpu } from "../../gpu/gpu.ts";
import { convWeight } from "../../gpu/ops/conv3d.ts";
import type { WeightUse } from "../../gpu/kernels/conv3d/variants.ts";
import type { ConvWeight } from "../../gpu/ops/conv3d_weight.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { blankSource, expectTensor, readFloat32, type TensorSource } from "../checkpoint/tensor_source.ts";
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
    const read = gpu.settings.dry ? blankSource(source) : source;
    return new VaeWeights(gpu, read, () => onProgress?.({ stage: "load vae", done: ++done, total }));
  }

  /**
   * A convolution's `.weight` and `.bias`.
   *
   * @param kernel [frames, height, width]; two lengths for a 2D convolution
   * @param use the options of the convolution that the layout of weights depends on
   */
  async conv(
    name: string,
    cin: number,
    cout: number,
    kernel: readonly number[],
    use: WeightUse = {},
    { bias = true, rowOf }: { readonly bias?: boolean; readonly rowOf?: (channel: number) => number } = {},
  ): Promise<Conv> {
    const values = await this.#read(`${name}.weight`, [cout, cin, ...kernel]),
      full = kernel.length === 2 ? [1, ...kernel] : kernel;
    return await this.#conv(ordered(values, cout, rowOf), cin, cout, full, use, bias && name, rowOf);
  }

  /** A 3×3 convolution of a frame's channels and those of the frame before it, side by side, as one of two frames. */
  async pairConv(name: string, cin: number, cout: number): Promise<Conv> {
    const values = await this.#read(`${name}.weight`, [cout, 2 * cin, 3, 3]), pairs = new Float32Array(values.length);
    for (let n = 0; n < cout; n++) {
      for (let c = 0; c < cin; c++) {
        // [out, (frame, before), in, 9] to [out, in, (before, frame), 9]
        for (const frame of [0, 1]) {
          const from = 9 * ((n * 2 + 1 - frame) * cin + c);
          pairs.set(values.subarray(from, from + 9), 9 * ((n * cin + c) * 2 + frame));
        }
      }
    }
    return await this.#conv(pairs, cin, cout, [2, 3, 3], {}, name);
  }

  /** A 1×1 convolution without a bias, of which the last `cout` output channels are used. */
  async lastRows(name: string, cin: number, cout: number): Promise<Conv> {
    const weight = `${name}.weight`, rows = this.source.info(weight).shape[0]!;
    const values = await this.#read(weight, [Math.max(rows, cout), cin, 1, 1]);
    return await this.#conv(values.subarray(values.length - cout * cin), cin, cout, [1, 1, 1], {}, false);
  }

  /** @param biasOf the layer whose bias it has, if it has one */
  async #conv(
    values: Float32Array,
    cin: number,
    cout: number,
    kernel: readonly number[],
    use: WeightUse,
    biasOf: string | false,
    rowOf?: (channel: number) => number,
  ): Promise<Conv> {
    const { gpu } = this, shape = [padChannels(cout), ...kernel, padChannels(cin)];
    const given = gpu.upload(channelsLast(values, cin, cout, kernel), shape), weight = convWeight(gpu, given, use);
    this.#owned.adopt(weight.tensor);
    if (weight.tensor !== given) gpu.release(given);
    const bias = biasOf === false ? new Float32Array(cout) : await this.#read(`${biasOf}.bias`, [cout]);
    return { weight, bias: this.#vector(ordered(bias, cout, rowOf)) };
  }

  /** A 1×1×1 convolution's `.weight` and `.bias`. */
  async pointwise(name: string, cin: number, cout: number): Promise<Pointwise> {
    const values = await this.#read(`${name}.weight`, [cout, cin, 1, 1, 1]);
    const weight = this.#upload(channelsLast(values, cin, cout, [1]), [padChannels(cout), padChannels(cin)]);
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

  #vector(values: Float32Array): Tensor {
    const padded = new Float32Array(padChannels(values.length));
    padded.set(values);
    return this.#upload(padded, [padded.length]);
  }

  #upload(values: Float32Array, shape: readonly number[]): Tensor {
    return this.#owned.adopt(this.#owned.gpu.upload(values, shape));
  }
}

/** A convolution's weight [out, in, kernel] as [out, taps, in], both channel counts filled up. */
function channelsLast(values: Float32Array, cin: number, cout: number, kernel: readonly number[]): Float32Array {
  const taps = kernel.reduce((a, b) => a * b), columns = padChannels(cin);
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

/** Rows in another order: each output channel is the row of its number, by `rowOf`. */
function ordered(values: Float32Array, rows: number, rowOf?: (channel: number) => number): Float32Array {
  if (!rowOf) return values;
  const width = values.length / rows, made = new Float32Array(values.length);
  for (let n = 0; n < rows; n++) made.set(values.subarray(rowOf(n) * width, (rowOf(n) + 1) * width), n * width);
  return made;
}
