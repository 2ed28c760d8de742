import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { adamwInPlace, moveAverage } from "../../gpu/ops/adamw.ts";
import { combine } from "../../gpu/ops/combine.ts";
import { headDots } from "../../gpu/ops/head_dots.ts";
import { sumRows } from "../../gpu/ops/sum_rows.ts";
import { zeros } from "../../gpu/ops/elementwise.ts";
import { sizeOf, type Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { readFloat32 } from "../checkpoint/safetensors.ts";
import type { TensorToWrite } from "../checkpoint/write_safetensors.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import { randn } from "../noise.ts";
import { type AdamWOptions, learningRate } from "../training/adamw.ts";
import { NonFiniteError } from "../training/non_finite_error.ts";
import { randomBits } from "../training/random.ts";
import { type HeadShape, prefixesOf } from "../attention/layout.ts";
import { bothSides, NO_TERMS, type Projections, type StoredProjection, termsOf, type TileScorer } from "./scorer.ts";
import { projectionName, type Target, type VedaFile } from "./veda_file.ts";
import { saveVeda } from "./save_veda.ts";

/** The standard deviation of the initial projections. */
const START = 1e-4;

/** The tensors of one projection, each [heads, 3 · head dim, head dim], by their prefixes in checkpoints. */
const PREFIXES = { average: "", x: "raw.", mean: "exp_avg.", square: "exp_avg_sq." } as const;
type Kind = keyof typeof PREFIXES;
type Parameter = Readonly<Record<Kind, Tensor>>;
const KINDS = Object.keys(PREFIXES) as Kind[];
const SIDES = ["q", "k"] as const;

/** The parameters of a step. */
export interface UpdateOptions extends AdamWOptions {
  /** The factor by which a step keeps the moving averages. */
  readonly average: number;
  /** The largest norm of a layer's gradient. Default: no limit */
  readonly clip?: number;
}

/**
 * A scorer in training: its projections, the optimizer's moments, and the moving averages, which are the saved weights.
 * All are on the GPU until it is disposed of. A checkpoint is a file of the averages, which loads like any other
 * scorer, with the rest added.
 */
export class TileParameters implements Disposable {
  private constructor(
    private readonly owner: TensorOwner,
    private readonly shape: HeadShape,
    private readonly layers: readonly Projections<Parameter>[],
  ) {}

  /** The initial state: N(0, 1e-4²), so that scores are almost those of mean pooling. */
  static random(gpu: Gpu, shape: HeadShape, seed: number): TileParameters {
    using owner = new TensorOwner(gpu);
    const make = (layer: number, side: number): Parameter => {
      const sizes = projectionShape(shape);
      const start = randn(sizeOf(sizes), randomBits(seed, layer, side)).map((x) => x * START);
      const upload = () => owner.adopt(gpu.upload(start, sizes)), zero = () => owner.adopt(zeros(gpu, sizes));
      return { x: upload(), average: upload(), mean: zero(), square: zero() };
    };
    const layers = Array.from({ length: shape.layers }, (_, layer) => ({ q: make(layer, 0), k: make(layer, 1) }));
    return new TileParameters(owner.move(), shape, layers);
  }

  /**
   * Reads a checkpoint.
   *
   * @throws {TilereelError} if it is damaged
   */
  static async load(gpu: Gpu, shape: HeadShape, checkpoint: TensorSource): Promise<TileParameters> {
    const sizes = projectionShape(shape), { path } = checkpoint;
    using owner = new TensorOwner(gpu);
    const read = async (name: string): Promise<Tensor> => {
      if (checkpoint.info(name).shape.join() !== sizes.join()) {
        throw new TilereelError(
          `${path} is not a checkpoint: ${quoted(name)} does not have the shape [${sizes.join(", ")}]`,
        );
      }
      return owner.adopt(gpu.upload(await readFloat32(checkpoint, name), sizes));
    };
    const layers: Projections<Parameter>[] = [];
    for (const prefix of prefixesOf(shape)) {
      layers.push(
        await bothSides(async (side) => {
          const name = projectionName(prefix, side), tensors: Partial<Record<Kind, Tensor>> = {};
          for (const kind of KINDS) tensors[kind] = await read(PREFIXES[kind] + name);
          return tensors as Parameter;
        }),
      );
    }
    return new TileParameters(owner.move(), shape, layers);
  }

  /** The projections of a layer, in training. */
  projections(layer: number): Projections<Tensor> {
    const { q, k } = this.layers[layer]!;
    return { q: q.x, k: k.x };
  }

  /** A tensor for a projection's gradient; owned by the caller. */
  gradient(): Tensor {
    return this.owner.gpu.tensor(projectionShape(this.shape));
  }

  /**
   * Records a step of one layer.
   *
   * @param step counts from 1
   */
  update(layer: number, gradients: Projections<Tensor>, step: number, options: UpdateOptions): void {
    const { owner: { gpu } } = this, lr = learningRate(step, options);
    gpu.scope(() => {
      const clip = options.clip === undefined
        ? undefined
        : { most: options.clip, squares: sumOfSquares(gpu, SIDES.map((side) => gradients[side])) };
      for (const side of SIDES) {
        const parameter = this.layers[layer]![side];
        adamwInPlace(gpu, { ...parameter, gradient: gradients[side] }, step, { ...options, lr, clip });
        moveAverage(gpu, parameter.average, parameter.x, options.average);
      }
    });
  }

  /**
   * Writes a checkpoint. It appears, or replaces the previous one, only when it is complete.
   *
   * @throws {TilereelError} if it cannot be written
   * @throws {NonFiniteError} if a number is not finite; then nothing is written
   */
  async save(path: string, file: VedaFile, metadata: Readonly<Record<string, string>>): Promise<void> {
    const shape = projectionShape(this.shape), more: Record<string, TensorToWrite> = {};
    for (const [layer, prefix] of prefixesOf(this.shape).entries()) {
      for (const side of SIDES) {
        for (const kind of KINDS.filter((kind) => kind !== "average")) {
          const data = await this.#read(layer, this.layers[layer]![side][kind]);
          more[PREFIXES[kind] + projectionName(prefix, side)] = { dtype: "F32", shape, data };
        }
      }
    }
    await saveVeda(path, { ...file, scorer: await this.scorer(file.target) }, metadata, more);
  }

  /**
   * The averages.
   *
   * @param target what they have learned
   * @throws {NonFiniteError} if a number is not finite
   */
  async scorer(target: Target = "max"): Promise<TileScorer> {
    const { heads, headDim, layerPrefixes } = this.shape;
    const layers: Projections<StoredProjection>[] = [];
    for (const [layer, parameters] of this.layers.entries()) {
      const stored = async (side: "q" | "k"): Promise<StoredProjection> => ({
        dtype: "F32",
        data: new Uint8Array((await this.#read(layer, parameters[side].average)).buffer),
      });
      layers.push(await bothSides(stored));
    }
    const terms = termsOf(target);
    return { heads, headDim, layers, layerPrefixes, ...terms !== NO_TERMS && { terms } };
  }

  [Symbol.dispose](): void {
    this.owner[Symbol.dispose]();
  }

  async #read(layer: number, tensor: Tensor): Promise<Float32Array<ArrayBuffer>> {
    const numbers = new Float32Array(await this.owner.gpu.readBytes(tensor));
    if (!numbers.every(Number.isFinite)) throw new NonFiniteError(layer);
    return numbers;
  }
}

/** Of all numbers of some tensors, whose last axis is a multiple of 4: [1], f32. */
function sumOfSquares(gpu: Gpu, tensors: readonly Tensor[]): Tensor {
  const sums = tensors.map((tensor) => {
    const rows = tensor.reshape([1, tensor.size / tensor.dim(-1), tensor.dim(-1)]);
    return sumRows(gpu, headDots(gpu, rows, rows, 1)).reshape([1]);
  });
  return combine(gpu, sums.map((sum) => [1, sum]));
}

function projectionShape({ heads, headDim }: HeadShape): number[] {
  return [heads, 3 * headDim, headDim];
}
