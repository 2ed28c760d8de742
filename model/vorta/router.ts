import { TilereelError } from "../../gpu/common/errors.ts";
import { uniformNumbers } from "../noise.ts";
import { type HeadShape, prefixesOf } from "../attention/layout.ts";
import { inOrder } from "../checkpoint/stored_layers.ts";
import { BRANCHES } from "./branch.ts";

const ROUTES = BRANCHES.length;

/** The linear layer of one block. */
export interface RouterLayer {
  /** [heads · 3, dim]: the three rows of a head are consecutive */
  readonly weight: Float32Array<ArrayBuffer>;
  /** [heads · 3] */
  readonly bias: Float32Array<ArrayBuffer>;
}

/** The properties that a router and its transformer must share. */
export interface RouterShape {
  readonly layers: number;
  readonly heads: number;
  /** The number of channels of a token. */
  readonly dim: number;
  /** As in {@link HeadShape}. */
  readonly layerPrefixes?: readonly string[] | undefined;
}

/** The shape of the routers of a transformer. */
export function routerShape({ layers, heads, headDim, layerPrefixes }: HeadShape): RouterShape {
  return { layers, heads, dim: heads * headDim, layerPrefixes };
}

/**
 * VORTA's routers (§3.3): for each block, how much each head should use each of the three branches at a timestep. They
 * have a thousandth of a model's size and depend only on the timestep, so they run on the CPU in both directions.
 */
export class Router {
  /**
   * @param layerPrefixes as in {@link HeadShape}
   * @throws {RangeError} if the sizes of a layer's arrays do not match `heads` and `dim`
   */
  constructor(
    readonly heads: number,
    readonly dim: number,
    readonly layers: readonly RouterLayer[],
    readonly layerPrefixes: readonly string[] = prefixesOf({ layers: layers.length }),
  ) {
    for (const [i, { weight, bias }] of layers.entries()) {
      if (weight.length !== heads * ROUTES * dim || bias.length !== heads * ROUTES) {
        throw new RangeError(
          `layer ${i}: ${weight.length} weights and ${bias.length} biases for ${heads} heads × ${dim}`,
        );
      }
    }
  }

  /**
   * Routers as PyTorch initializes them, block by block: each weight and bias is uniform within ±1/√dim. The numbers
   * are those of `nn.Linear` after `torch.manual_seed(seed)`.
   */
  static random({ layers, heads, dim, layerPrefixes }: RouterShape, seed: number): Router {
    const next = uniformNumbers(seed);
    const bound = Math.fround(1 / Math.sqrt(dim));
    // Rounded once, to float32, like PyTorch's fused multiply-add.
    const draw = (length: number) => Float32Array.from({ length }, () => next() * 2 * bound - bound);
    const layer = () => ({ weight: draw(heads * ROUTES * dim), bias: draw(heads * ROUTES) });
    return new Router(heads, dim, Array.from({ length: layers }, layer), layerPrefixes);
  }

  /** A router of the same shape with all zeros, for gradients and moments. */
  zeros(): Router {
    const { heads, dim, layers, layerPrefixes } = this, zeros = ({ length }: Float32Array) => new Float32Array(length);
    const empty = layers.map(({ weight, bias }) => ({ weight: zeros(weight), bias: zeros(bias) }));
    return new Router(heads, dim, empty, layerPrefixes);
  }

  /** All arrays, by their names in the authors' state dict. */
  parameters(): Map<string, { readonly shape: readonly number[]; readonly data: Float32Array<ArrayBuffer> }> {
    const { layers, layerPrefixes, dim } = this, rows = this.heads * ROUTES;
    return new Map(layers.flatMap(({ weight, bias }, layer) => [
      [parameterName(layerPrefixes[layer]!, "weight"), { shape: [rows, dim], data: weight }],
      [parameterName(layerPrefixes[layer]!, "bias"), { shape: [rows], data: bias }],
    ]));
  }

  /**
   * softmax(Linear(SiLU(temb))) over the three branches.
   *
   * @param temb [timesteps, dim]: timestep embeddings as the transformer returns them, before any activation
   * @returns [layers, timesteps, heads, 3]
   */
  scores(temb: Float32Array): Float32Array<ArrayBuffer> {
    const { dim } = this, count = this.#timesteps(temb), rows = this.heads * ROUTES, inputs = silu(temb);
    const scores = new Float32Array(this.layers.length * count * rows);
    for (const [l, { weight, bias }] of this.layers.entries()) {
      for (let n = 0; n < count; n++) {
        const out = scores.subarray((l * count + n) * rows, (l * count + n + 1) * rows);
        const logits = new Float64Array(rows);
        for (let row = 0; row < rows; row++) {
          let sum = bias[row]!;
          for (let c = 0; c < dim; c++) sum += weight[row * dim + c]! * inputs[n * dim + c]!;
          logits[row] = sum;
        }
        for (let at = 0; at < rows; at += ROUTES) softmax(logits, at, out);
      }
    }
    return scores;
  }

  /**
   * The gradients of all weights and biases.
   *
   * @param temb the embeddings of the scores
   * @param scores the result of {@linkcode Router.scores} for it
   * @param scoreGradients the gradients of the loss with respect to the scores, in the same shape
   * @param into the router to which gradients are added
   */
  backward(temb: Float32Array, scores: Float32Array, scoreGradients: Float32Array, into: Router): void {
    const { dim } = this, count = this.#timesteps(temb), rows = this.heads * ROUTES;
    if (scores.length !== this.layers.length * count * rows || scoreGradients.length !== scores.length) {
      throw new RangeError(`${scores.length} scores with ${scoreGradients.length} gradients for ${count} timesteps`);
    }
    const inputs = silu(temb);
    for (const [l, { weight, bias }] of into.layers.entries()) {
      for (let n = 0; n < count; n++) {
        const at = (l * count + n) * rows;
        for (let row = 0; row < rows; row++) {
          const head = at + row - row % ROUTES;
          let mean = 0;
          for (let i = 0; i < ROUTES; i++) mean += scores[head + i]! * scoreGradients[head + i]!;
          const logit = scores[at + row]! * (scoreGradients[at + row]! - mean);
          bias[row]! += logit;
          for (let c = 0; c < dim; c++) weight[row * dim + c]! += logit * inputs[n * dim + c]!;
        }
      }
    }
  }

  #timesteps(temb: Float32Array): number {
    const count = temb.length / this.dim;
    if (!Number.isInteger(count)) throw new RangeError(`${temb.length} numbers are no embeddings of ${this.dim}`);
    return count;
  }
}

/** The name of a parameter in the authors' state dict. */
export function parameterName(prefix: string, kind: "weight" | "bias"): string {
  return `${prefix}router.linear.${kind}`;
}

/**
 * The branch that each head takes: the one with the best score, or full attention if that score is below `tau`. Of
 * equal scores, the first branch wins. `tau` is compared in float32. Both are as in the authors' PyTorch code. (In a
 * batch, they look only at the first sample; all samples share a timestep, and so the scores.)
 *
 * @param scores [..., 3]
 * @returns indices into {@linkcode BRANCHES}, [...]
 */
export function routes(scores: Float32Array, tau: number): Uint8Array<ArrayBuffer> {
  const threshold = Math.fround(tau);
  return Uint8Array.from({ length: scores.length / ROUTES }, (_, head) => {
    let best = 0;
    for (let i = 1; i < ROUTES; i++) if (scores[head * ROUTES + i]! > scores[head * ROUTES + best]!) best = i;
    return scores[head * ROUTES + best]! < threshold ? 0 : best;
  });
}

/**
 * The loss that draws heads from full attention, Σ over blocks of the mean over heads of score_full², with gradients.
 *
 * @param scores [layers, heads, 3], for one timestep
 * @returns gradients of the shape of `scores`
 */
export function regularization(scores: Float32Array, heads: number): { loss: number; gradients: Float32Array } {
  const gradients = new Float32Array(scores.length);
  let loss = 0;
  for (let i = 0; i < scores.length; i += ROUTES) {
    loss += scores[i]! ** 2 / heads;
    gradients[i] = 2 * scores[i]! / heads;
  }
  return { loss, gradients };
}

/**
 * The router with its layers in the order of a transformer's.
 *
 * @param path the name of the router in the message
 * @throws {TilereelError} if it was not made for a transformer of this shape
 */
export function routerFor({ heads, dim, layers, layerPrefixes }: Router, shape: RouterShape, path: string): Router {
  const own = { layers: layers.length, heads, dim, layerPrefixes }, wanted = prefixesOf(shape);
  const ordered = inOrder(layers, layerPrefixes, wanted), fits = heads === shape.heads && dim === shape.dim;
  if (ordered && fits) return new Router(heads, dim, ordered, wanted);
  const words = (shape: RouterShape) =>
    `${shape.layers} blocks with ${shape.heads} heads on ${shape.dim} channels` +
    (fits && own.layers === wanted.length ? ` from "${prefixesOf(shape)[0]}" on` : "");
  throw new TilereelError(
    `${path} was made for another model: it routes ${words(own)}, but this model has ${words(shape)}; ` +
      `use a router that was trained on this model`,
  );
}

function silu(x: Float32Array): Float64Array {
  return Float64Array.from(x, (value) => value / (1 + Math.exp(-value)));
}

/** The softmax of a head's logits, which begin at `at`, as are its scores. */
function softmax(logits: Float64Array, at: number, out: Float32Array): void {
  let max = -Infinity, sum = 0;
  for (let i = at; i < at + ROUTES; i++) max = Math.max(max, logits[i]!);
  for (let i = at; i < at + ROUTES; i++) sum += logits[i] = Math.exp(logits[i]! - max);
  for (let i = at; i < at + ROUTES; i++) out[i] = logits[i]! / sum;
}
