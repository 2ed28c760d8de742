/**
 * A scorer in training: its projections, the optimizer's moments, and the moving averages, which are the saved weights.
 * All are on the GPU. A checkpoint is a file of the averages, which loads like any other scorer, with the rest added.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { adamwInPlace, moveAverage } from "../../gpu/ops/adamw.ts";
import { fill } from "../../gpu/ops/elementwise.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { openSafetensors, readFloat32, type TensorToWrite } from "../checkpoint/safetensors.ts";
import { randn } from "../noise.ts";
import { checkpointMetadata, checkpointStep, type TrainingIdentity } from "../training/identity.ts";
import { randomBits } from "../training/random.ts";
import type { HeadShape } from "../attention/layout.ts";
import type { Projections, StoredProjection, TileScorer } from "./scorer.ts";
import { projectionName, saveVeda, type VedaFile } from "./veda_file.ts";

/** The standard deviation of the initial projections. */
const START = 1e-4;

/** The tensors of one projection, each [heads, 3 · head dim, head dim], by their prefixes in checkpoints. */
const PREFIXES = { average: "", x: "raw.", mean: "exp_avg.", square: "exp_avg_sq." } as const;
type Kind = keyof typeof PREFIXES;
type Parameter = Readonly<Record<Kind, Tensor>>;
const KINDS = Object.keys(PREFIXES) as Kind[];
const SIDES = ["q", "k"] as const;

/** The parameters of a step. */
export interface UpdateOptions {
  readonly lr: number;
  /** The weight decay: the part of each parameter, times the learning rate, that a step subtracts. */
  readonly weightDecay: number;
  /** The factor by which a step keeps the moving averages. */
  readonly average: number;
}

/** A number of a scorer that is not finite. */
export class NonFiniteLayerError extends Error {
  constructor(readonly layer: number) {
    super(`layer ${layer} is not finite`);
  }
}

/** The trained state of one scorer. It holds GPU memory until it is disposed of. */
export class TileParameters implements Disposable {
  private constructor(
    private readonly gpu: Gpu,
    private readonly shape: HeadShape,
    private readonly layers: readonly Projections<Parameter>[],
  ) {}

  /** The initial state: N(0, 1e-4²), so that scores are almost those of mean pooling. */
  static random(gpu: Gpu, shape: HeadShape, seed: number): TileParameters {
    const make = (layer: number, side: number): Parameter => {
      const { size, sizes } = projectionShape(shape);
      const start = randn(size, randomBits(seed, layer, side)).map((x) => x * START);
      const zeros = () => {
        const tensor = gpu.keep(gpu.tensor(sizes));
        fill(gpu, tensor, 0);
        return tensor;
      };
      const upload = () => gpu.keep(gpu.upload(start, sizes));
      return { x: upload(), average: upload(), mean: zeros(), square: zeros() };
    };
    const layers = Array.from({ length: shape.layers }, (_, layer) => ({ q: make(layer, 0), k: make(layer, 1) }));
    return new TileParameters(gpu, shape, layers);
  }

  /**
   * Reads a checkpoint, to resume from it.
   *
   * @param identity the identity of the training that resumes
   * @returns the parameters, and the steps done
   * @throws {TilereelError} if the file is damaged or no checkpoint, or comes from other options, which are named
   */
  static async load(
    gpu: Gpu,
    shape: HeadShape,
    path: string,
    identity: TrainingIdentity,
  ): Promise<{ parameters: TileParameters; step: number }> {
    using source = await openSafetensors(path);
    const step = checkpointStep(path, source.metadata, identity);
    const { sizes } = projectionShape(shape);
    using made = new DisposableStack();
    const read = async (name: string): Promise<Tensor> => {
      if (source.info(name).shape.join() !== sizes.join()) {
        throw new TilereelError(`${path} is not a checkpoint: "${name}" does not have the shape [${sizes.join(", ")}]`);
      }
      const data = await readFloat32(source, name);
      return made.adopt(gpu.keep(gpu.upload(data, sizes)), (tensor) => gpu.release(tensor));
    };
    const layers: Projections<Parameter>[] = [];
    for (let layer = 0; layer < shape.layers; layer++) {
      const take = async (side: "q" | "k"): Promise<Parameter> => {
        const name = projectionName(layer, side);
        const tensors: Partial<Record<Kind, Tensor>> = {};
        for (const kind of KINDS) tensors[kind] = await read(PREFIXES[kind] + name);
        return tensors as Parameter;
      };
      layers.push({ q: await take("q"), k: await take("k") });
    }
    made.move();
    return { parameters: new TileParameters(gpu, shape, layers), step };
  }

  /** The projections of a layer, in training. */
  projections(layer: number): Projections<Tensor> {
    const { q, k } = this.layers[layer]!;
    return { q: q.x, k: k.x };
  }

  /** A tensor for a projection's gradient; owned by the caller. */
  gradient(): Tensor {
    return this.gpu.tensor(projectionShape(this.shape).sizes);
  }

  /**
   * Records a step of one layer.
   *
   * @param step counts from 1
   */
  update(layer: number, gradients: Projections<Tensor>, step: number, options: UpdateOptions): void {
    for (const side of SIDES) {
      const parameter = this.layers[layer]![side];
      adamwInPlace(this.gpu, { ...parameter, gradient: gradients[side] }, step, options);
      moveAverage(this.gpu, parameter.average, parameter.x, options.average);
    }
  }

  /**
   * Writes a checkpoint. It appears, or replaces the previous one, only when it is complete.
   *
   * @throws {TilereelError} if it cannot be written
   * @throws {NonFiniteLayerError} if a number is not finite; then nothing is written
   */
  async save(path: string, step: number, identity: TrainingIdentity, file: VedaFile): Promise<void> {
    const { sizes } = projectionShape(this.shape);
    const more: Record<string, TensorToWrite> = {};
    for (const [layer, projections] of this.layers.entries()) {
      for (const side of SIDES) {
        for (const kind of KINDS.filter((kind) => kind !== "average")) {
          const data = await this.#read(layer, projections[side][kind]);
          more[PREFIXES[kind] + projectionName(layer, side)] = { dtype: "F32", shape: sizes, data };
        }
      }
    }
    await saveVeda(path, { ...file, scorer: await this.scorer() }, checkpointMetadata(step, identity), more);
  }

  /**
   * The averages.
   *
   * @throws {NonFiniteLayerError} if a number is not finite
   */
  async scorer(): Promise<TileScorer> {
    const { heads, headDim } = this.shape;
    const layers: Projections<StoredProjection>[] = [];
    for (const [layer, { q, k }] of this.layers.entries()) {
      const take = async ({ average }: Parameter): Promise<StoredProjection> => ({
        dtype: "F32",
        data: new Uint8Array((await this.#read(layer, average)).buffer),
      });
      layers.push({ q: await take(q), k: await take(k) });
    }
    return { heads, headDim, layers };
  }

  [Symbol.dispose](): void {
    for (const projections of this.layers) {
      for (const side of SIDES) for (const kind of KINDS) this.gpu.release(projections[side][kind]);
    }
  }

  async #read(layer: number, tensor: Tensor): Promise<Float32Array<ArrayBuffer>> {
    const numbers = new Float32Array(await this.gpu.readBytes(tensor));
    if (!numbers.every(Number.isFinite)) throw new NonFiniteLayerError(layer);
    return numbers;
  }
}

function projectionShape({ heads, headDim }: HeadShape) {
  const sizes = [heads, 3 * headDim, headDim];
  return { sizes, size: heads * 3 * headDim * headDim };
}
