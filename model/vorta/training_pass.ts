import type { Gpu } from "../../gpu/gpu.ts";
import { combine } from "../../gpu/ops/combine.ts";
import { zeros } from "../../gpu/ops/elementwise.ts";
import { nonFiniteIn } from "../../gpu/ops/count_non_finite.ts";
import { meanSquaredError, meanSquaredErrorGradient, squaredErrorSums } from "../../gpu/ops/mean_squared_error.ts";
import { readTogether } from "../../gpu/read_together.ts";
import { Tape } from "../../gpu/tape.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { product } from "../attention/grid.ts";
import { NonFiniteError } from "../training/non_finite_error.ts";
import type { Conditioning, EmbeddedPass, RunLayer, VideoTransformer } from "../family.ts";
import { ActivationStack } from "./activation_stack.ts";
import { VortaAttention } from "./attention.ts";
import { type Branch, BRANCHES } from "./branch.ts";
import type { LossWeights } from "./recipe.ts";
import type { VortaSettings } from "./settings.ts";

/** The losses that need a pass. */
type PassLosses = Omit<LossWeights, "regularization">;

/** The inputs of a pass. */
export interface TrainingPassInput {
  /** [1, channels, frames, height, width], f32: (1 − σ)·latents + σ·noise */
  readonly noisy: Tensor;
  /** noise − latents, as `noisy` */
  readonly target: Tensor;
  readonly timestep: number;
  /** Of a batch of one. */
  readonly conditioning: Conditioning;
  /** [layers, heads, 3]: the routers' scores at this timestep */
  readonly scores: Float32Array;
  readonly settings: VortaSettings;
  /** The weight of each loss in the gradient. A loss with weight 0 costs nothing, where that is possible. */
  readonly weights: PassLosses;
  /** The bytes of blocks' inputs that may stay on the GPU. Default: 1 GiB. */
  readonly keepBytes?: number;
  /** The attention for these tokens and settings, where it was made before; it stays the caller's. */
  readonly attention?: VortaAttention | undefined;
  /** Ends the pass before the next block. */
  readonly signal?: AbortSignal | undefined;
}

/** The results of a pass. */
export interface TrainingPassResult {
  /**
   * The losses without weights: mean squared errors to the target, to the reference stream's prediction, and (summed)
   * to the outputs of its blocks, for the grid's tokens.
   */
  readonly losses: PassLosses;
  /** [layers, heads, 3]: the gradient of the weighted sum of the losses with respect to the scores */
  readonly scoreGradients: Float32Array;
  /** The share of the pairs of queries and keys that each branch multiplies. */
  readonly densities: Readonly<Record<Branch, number>>;
}

const KEEP_BYTES = 2 ** 30;

/**
 * Runs one pass of router training over the frozen transformer, forward and backward (VORTA §3.3). Every block runs all
 * three branches, weighted by the routing scores, beside a reference stream with full attention. The result is the loss
 * and its gradient with respect to the scores.
 *
 * Blocks are run again in the backward pass, so that only one block's activations are alive at a time. Only the input
 * of each block is kept: on the GPU up to a limit, beyond that in this machine's memory. Weights may be streamed.
 *
 * On a device that multiplies in f16, the products of the backward pass have operands in f16, too.
 *
 * @throws {NonFiniteError} if a loss or a gradient is not finite
 * @throws {TilereelError} if memory runs out, weights cannot be read, or the GPU is lost
 * @throws the signal's reason, if it is aborted
 */
export async function trainingPass(
  gpu: Gpu,
  transformer: VideoTransformer,
  input: TrainingPassInput,
): Promise<TrainingPassResult> {
  using pass = new Pass(gpu, transformer, input);
  return await pass.run();
}

/**
 * Uploads routing scores in the form that {@link VortaAttention.weighted} takes.
 *
 * @param scores [layers, heads, 3]
 * @returns for each layer and branch, [1, heads], f32; owned by the caller
 */
export function scoreTensors(gpu: Gpu, scores: Float32Array, layers: number, heads: number): Tensor[][] {
  return Array.from({ length: layers }, (_, layer) =>
    BRANCHES.map((_, branch) => {
      const at = (head: number) => scores[(layer * heads + head) * BRANCHES.length + branch]!;
      return gpu.upload(Float32Array.from({ length: heads }, (_, head) => at(head)), [1, heads]);
    }));
}

/** The state of one pass. It owns its tensors until the end. */
class Pass implements Disposable {
  readonly #owner: TensorOwner;
  readonly #inputs: ActivationStack;
  /** The gradients of the hidden loss with respect to the blocks' outputs. */
  readonly #hidden: ActivationStack;
  readonly #vorta: VortaAttention;
  readonly #scores: readonly (readonly Tensor[])[];
  readonly #layers: number;
  /** The number of the grid's tokens. */
  readonly #tokens: number;
  /**
   * A power of two by which all gradients are multiplied until they are read, so that f16 holds them: a mean divides them
   * by the number of elements.
   */
  readonly #lossScale: number;

  constructor(
    private readonly gpu: Gpu,
    private readonly transformer: VideoTransformer,
    private readonly input: TrainingPassInput,
  ) {
    const { shape } = transformer, { heads, layers } = shape;
    this.#owner = new TensorOwner(gpu);
    this.#layers = layers;
    this.#inputs = new ActivationStack(gpu, input.keepBytes ?? KEEP_BYTES);
    this.#hidden = new ActivationStack(gpu, 0);
    const layout = transformer.layout(input.noisy.shape, input.conditioning);
    this.#tokens = product(layout.grid);
    this.#vorta = input.attention ?? new VortaAttention(gpu, shape, layout, input.settings);
    this.#scores = scoreTensors(gpu, input.scores, layers, heads);
    const { diffusion, distillation } = input.weights;
    this.#lossScale = gpu.f16
      ? 2 ** Math.round(Math.log2(input.noisy.size / (2 * (diffusion + distillation || 1))))
      : 1;
    this.#owner.adopt(this.#scores.flat());
  }

  async run(): Promise<TrainingPassResult> {
    const { gpu, transformer, input: { target, weights } } = this;
    const embedded = this.#embed();
    const sums: Tensor[] = [];
    const { x, reference, run } = await this.#forward(embedded, sums);

    const tape = new Tape([x], gpu.settings.precision);
    const gradient = gpu.scope(() => {
      const project = (x: Tensor) => transformer.project(x, embedded);
      const teacher = reference && project(reference);
      const y = gpu.taping(tape, () => project(x));
      sums.push(this.#owner.adopt(squaredErrorSums(gpu, y, target)));
      if (teacher) sums.push(this.#owner.adopt(squaredErrorSums(gpu, y, teacher)));
      const toTarget = meanSquaredErrorGradient(gpu, y, target, weights.diffusion * this.#lossScale);
      const toTeacher = teacher && meanSquaredErrorGradient(gpu, y, teacher, weights.distillation * this.#lossScale);
      const dy = toTeacher ? combine(gpu, [[1, toTarget], [1, toTeacher]]) : toTarget;
      return tape.gradients(gpu, y, dy, [x])[0]!;
    });
    this.#owner.free(x, ...reference ? [reference] : []);
    const scoreGradients = await this.#backward(embedded, this.#owner.adopt(gradient), run);
    return await this.#result(sums, scoreGradients, reference !== undefined, this.#ofGrid(x).size);
  }

  #embed(): EmbeddedPass {
    const { noisy: latents, timestep, conditioning } = this.input;
    const embedded = this.transformer.embed({
      latents,
      timesteps: [timestep],
      conditioning,
      selfAttention: this.#vorta.weighted(this.#scores),
    });
    this.#owner.adopt([embedded.x, ...embedded.tensors]);
    return embedded;
  }

  /**
   * Runs both streams through all blocks. Keeps each block's input, and puts the hidden losses in `sums`.
   *
   * @returns the outputs of the last block, and `run`, which runs it again
   */
  async #forward(
    embedded: EmbeddedPass,
    sums: Tensor[],
  ): Promise<{ x: Tensor; reference: Tensor | undefined; run: RunLayer }> {
    const { gpu, transformer, input: { weights, signal } } = this, last = this.#layers - 1;
    const dense = { ...embedded, selfAttention: this.#vorta.single("full") };
    const teach = weights.distillation > 0 || weights.hidden > 0;
    let { x } = embedded;
    let reference = teach ? x : undefined;
    let run!: RunLayer;
    for (let layer = 0; layer <= last; layer++) {
      signal?.throwIfAborted();
      run = await transformer.layer(layer, layer < last ? layer + 1 : Math.max(0, last - 1));
      const y = this.#owner.adopt(run(x, embedded));
      if (reference) {
        const next = this.#owner.adopt(run(reference, dense));
        if (reference !== x) this.#owner.free(reference);
        reference = next;
      }
      await this.#inputs.push(this.#owner.disown(x));
      if (weights.hidden > 0) {
        sums.push(this.#owner.adopt(squaredErrorSums(gpu, this.#ofGrid(y), this.#ofGrid(reference!))));
        await this.#hidden.push(this.#hiddenGradient(y, reference!));
      }
      x = y;
    }
    return { x, reference, run };
  }

  /** The grid's tokens: as in the authors' code, kept ones have no part in the hidden loss. */
  #ofGrid(x: Tensor): Tensor {
    const [batch, tokens, dim] = x.shape as [number, number, number];
    if (tokens === this.#tokens) return x;
    return x.reshape([batch * tokens, dim]).rows(0, this.#tokens);
  }

  /** The gradient of the hidden loss with respect to a block's output. */
  #hiddenGradient(y: Tensor, reference: Tensor): Tensor {
    const { gpu, input: { weights } } = this;
    return gpu.scope(() => {
      const ofGrid = meanSquaredErrorGradient(
        gpu,
        this.#ofGrid(y),
        this.#ofGrid(reference),
        weights.hidden * this.#lossScale,
      );
      if (ofGrid.size === y.size) return ofGrid;
      const all = zeros(gpu, y.shape);
      gpu.copy(ofGrid, this.#ofGrid(all));
      return all;
    });
  }

  /**
   * @param gradient of the last block's output; taken over
   * @param run runs the last block
   * @returns for each layer the gradients of the three branches' scores
   */
  async #backward(embedded: EmbeddedPass, gradient: Tensor, run: RunLayer): Promise<Tensor[]> {
    const { gpu, transformer, input: { weights, signal } } = this, last = this.#layers - 1;
    const all: Tensor[][] = [];
    // One block is computed while the next is recorded. With more, what is uploaded for them would pile up.
    let underWay: Promise<void> | undefined;
    for (let layer = last; layer >= 0; layer--) {
      signal?.throwIfAborted();
      if (layer < last) run = await transformer.layer(layer, Math.max(0, layer - 1));
      const x = this.#owner.adopt(await this.#inputs.pop());
      const extra = weights.hidden > 0 ? this.#owner.adopt(await this.#hidden.pop()) : undefined;
      const scores = this.#scores[layer]!;
      // Nothing before the first block is trained.
      const watched = layer > 0 ? [...scores, x] : scores;
      const gradients = gpu.scope(() => {
        const dy = extra ? combine(gpu, [[1, gradient], [1, extra]]) : gradient;
        const tape = new Tape(watched, gpu.settings.precision);
        const y = gpu.taping(tape, () => run(x, embedded));
        return tape.gradients(gpu, y, dy, watched).map((g) => g!);
      });
      this.#owner.adopt(gradients);
      all.unshift(gradients.slice(0, BRANCHES.length));
      this.#owner.free(x, gradient, ...extra ? [extra] : []);
      gradient = gradients[BRANCHES.length]!;
      const recorded = gpu.finish();
      recorded.catch(() => {/* told where it is waited for, or by what came before */});
      await underWay;
      underWay = recorded;
    }
    return all.flat();
  }

  async #result(
    sums: readonly Tensor[],
    gradients: readonly Tensor[],
    teach: boolean,
    elements: number,
  ): Promise<TrainingPassResult> {
    const { gpu, input: { noisy, weights }, transformer: { shape: { heads } } } = this;
    const numbers = await readTogether(gpu, [...sums, ...gradients]);
    const outputs = numbers.slice(0, sums.length);
    const hidden = weights.hidden > 0 ? outputs.splice(0, this.#layers) : [];
    const losses = {
      diffusion: meanSquaredError(outputs[0]!, noisy.size),
      distillation: teach ? meanSquaredError(outputs[1]!, noisy.size) : 0,
      hidden: hidden.reduce((sum, part) => sum + meanSquaredError(part, elements), 0),
    };
    const scoreGradients = new Float32Array(this.#layers * heads * BRANCHES.length);
    for (const [i, part] of numbers.slice(sums.length).entries()) {
      const layer = Math.floor(i / BRANCHES.length), branch = i % BRANCHES.length;
      for (const [head, g] of part.entries()) {
        scoreGradients[(layer * heads + head) * BRANCHES.length + branch] = g / this.#lossScale;
      }
    }
    if (!Object.values(losses).every(Number.isFinite)) throw new NonFiniteError(await this.#firstNonFinite());
    // In the backward pass, the last block comes first.
    const bad = scoreGradients.findLastIndex((g) => !Number.isFinite(g));
    if (bad >= 0) throw new NonFiniteError(Math.floor(bad / (heads * BRANCHES.length)));
    const { pairs } = this.#vorta;
    const densities = Object.fromEntries(BRANCHES.map((branch) => [branch, pairs[branch] / pairs.full]));
    return { losses, scoreGradients, densities: densities as Record<Branch, number> };
  }

  /** Runs the blocks again to find the first one whose output is not finite. */
  async #firstNonFinite(): Promise<number | undefined> {
    const { gpu, transformer } = this;
    const embedded = this.#embed();
    let { x } = embedded;
    const isBad = async (tensor: Tensor) => await nonFiniteIn(gpu, tensor) > 0;
    if (await isBad(x)) return undefined;
    for (let layer = 0; layer < this.#layers; layer++) {
      const run = await transformer.layer(layer), y = this.#owner.adopt(run(x, embedded));
      if (await isBad(y)) return layer;
      this.#owner.free(x);
      x = y;
    }
    return undefined;
  }

  [Symbol.dispose](): void {
    this.#owner[Symbol.dispose]();
    this.#inputs[Symbol.dispose]();
    this.#hidden[Symbol.dispose]();
    if (!this.input.attention) this.#vorta[Symbol.dispose]();
  }
}
