import type { Gpu } from "../../gpu/gpu.ts";
import { columns } from "../../gpu/ops/columns.ts";
import {
  isInHalves,
  linear,
  linearHalves,
  linearInto,
  type LinearOptions,
  linearTogether,
} from "../../gpu/ops/linear.ts";
import { type Operand, PackedOperand, plainOperand } from "../../gpu/ops/packed_operand.ts";
import { lastInput, sharedInput, sharedWeight } from "../../gpu/ops/shared_operands.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { Weights } from "../weights/weights.ts";

/** Options of {@link Linear.load}. */
export interface LinearLoadOptions {
  /** Whether the layer has a bias. Default: true */
  readonly bias?: boolean;
  /** See {@link Linear.exact}. Default: false */
  readonly exact?: boolean;
  /** The shape of the weight in the file, if it is that of a convolution. Default: [out, in] */
  readonly stored?: readonly number[];
}

/** What is packed of a part of an input should take at most so many bytes. */
const PACKED_BYTES = 128 * 2 ** 20;
/** Parts begin at multiples of so many rows, where they can be bound. */
const PART_GRAIN = 64;

/** The operations that are fused with a layer's product. */
export type LinearApplyOptions = Omit<LinearOptions, "scale" | "bias" | "precision" | "transposed">;

/** A linear layer. The weights belong to whoever loaded them. */
export class Linear {
  #weight: Operand;
  /** The number of rows of the inputs that the weight was last packed for. */
  #rows = 0;

  /**
   * @param weight [out, in]
   * @param bias [out]
   * @param exact whether its products always hold their operands in f32, because they exceed the range of f16
   * @param scale [out]: the factors of the weight's rows, if it is quantised and has them
   * @param replace gives the weight's place to the same numbers in another form, which products then read as they are.
   * Without it, they are packed for each product
   */
  constructor(
    weight: Operand,
    readonly bias?: Tensor,
    readonly exact = false,
    readonly scale?: Tensor,
    private readonly replace?: (by: Tensor) => void,
  ) {
    this.#weight = weight;
  }

  /** [out, in] */
  get weight(): Operand {
    return this.#weight;
  }

  /**
   * Loads `name.weight` and `name.bias`. All linear layers of transformers and text encoders are loaded here.
   *
   * @throws {TilereelError} as {@link Weights.matrix}
   */
  static async load(
    weights: Weights,
    name: string,
    outputs: number,
    inputs: number,
    { bias = true, exact = false, stored = [outputs, inputs] }: LinearLoadOptions = {},
  ): Promise<Linear> {
    const { weight, scale, replace } = await weights.matrix(`${name}.weight`, stored, { exact });
    return new Linear(
      weight.reshape([outputs, inputs]),
      bias ? await weights.vector(`${name}.bias`, [outputs]) : undefined,
      exact,
      scale,
      exact ? undefined : replace,
    );
  }

  /** The number of channels of the output. */
  get outputs(): number {
    return this.weight.shape[0]!;
  }

  /**
   * residual + gate · act(scale · x·Wᵀ + bias)
   *
   * @param x [..., in], f32
   * @returns [..., out], f32
   */
  apply(gpu: Gpu, x: Operand, options?: LinearApplyOptions): Tensor {
    this.#packFor(gpu, rowsOf(x));
    return linear(gpu, x, this.weight, this.#with(options));
  }

  /**
   * As {@link apply}, for an input that nothing else reads. It is released: if it must be packed, before there is an
   * output.
   */
  applyLast(gpu: Gpu, x: Operand, options?: LinearApplyOptions): Tensor {
    this.#packFor(gpu, rowsOf(x));
    return gpu.scope(() => {
      const input = this.exact ? x : lastInput(gpu, x, this.weight);
      const y = linear(gpu, input, this.weight, this.#with(options));
      if (input === x) gpu.release(x instanceof PackedOperand ? x.tensor : x);
      return y;
    });
  }

  /**
   * As {@link apply}, a part of the rows after the other.
   *
   * @param bytes what is packed of a part takes at most so many in 16 bits, but may have 64 rows
   */
  applyInParts(gpu: Gpu, x: Tensor, bytes = PACKED_BYTES): Tensor {
    const rows = rowsOf(x), most = Math.max(1, Math.floor(bytes / 2 / x.dim(-1) / PART_GRAIN)) * PART_GRAIN;
    const parts = Math.ceil(rows / most);
    if (gpu.tape || parts === 1) return this.apply(gpu, x);
    const length = Math.ceil(rows / parts / PART_GRAIN) * PART_GRAIN;
    const y = gpu.tensor([...x.shape.slice(0, -1), this.outputs]);
    gpu.scope(() => {
      const shared = this.shared(gpu, rows);
      for (let first = 0; first < rows; first += length) {
        const part = (of: Tensor) => of.reshape([rows, of.dim(-1)]).rows(first, Math.min(length, rows - first));
        shared.apply(gpu, part(x), { into: part(y) });
      }
    });
    return y;
  }

  /** As {@link apply}, for values of attention that `takesHalves`. [..., out], f16 or f32; or `into`, f16 */
  applyHalves(gpu: Gpu, x: Operand, into?: Tensor): Tensor {
    this.#packFor(gpu, rowsOf(x));
    return linearHalves(gpu, x, this.weight, this.#with(), into);
  }

  /** Whether {@link applyHalves} gives f16. */
  givesHalves(gpu: Gpu, x: Operand): boolean {
    return isInHalves(gpu, x, this.weight);
  }

  /**
   * Several layers of one input: `apply`, or `applyHalves` where it says so. Kernels compute them together where they can.
   */
  static applyAll(
    gpu: Gpu,
    x: Operand,
    layers: readonly { readonly to: Linear; readonly halves?: boolean }[],
  ): Tensor[] {
    for (const { to } of layers) to.#packFor(gpu, rowsOf(x));
    const held = layers.every(({ to }) => to.weight instanceof PackedOperand || gpu.lists && to.replace !== undefined);
    return linearTogether(gpu, x, layers.map(({ to, halves }) => ({ w: to.weight, ...to.#with(), halves })), held);
  }

  /** As {@link apply}, for an output that only `next` reads, in the form that it reads fastest. */
  applyInto(gpu: Gpu, x: Operand, next: Linear, options?: LinearApplyOptions): Operand {
    this.#packFor(gpu, rowsOf(x));
    return linearInto(gpu, x, this.weight, next.weight, this.#with(options));
  }

  /**
   * gate · (scale · dy)·W: the gradient of the input from that of the output.
   *
   * @param dy [..., out], f32
   * @param options `precision` is as `products` of a `Tape`
   * @returns [..., in], f32
   */
  backward(gpu: Gpu, dy: Tensor, options?: Pick<LinearOptions, "gate" | "into" | "precision">): Tensor {
    const exact = this.exact && { precision: "f32" } as const;
    return linear(gpu, dy, this.weight, { ...options, ...exact, scale: this.scale, transposed: true });
  }

  /** Returns x in the form that layers of this size read fastest, so that several of them can share it. */
  share(gpu: Gpu, x: Operand): Operand {
    return sharedInput(gpu, x, this.weight);
  }

  /** The same layer with its weight in the form that is read fastest, for several inputs of `rows` rows in all. */
  shared(gpu: Gpu, rows: number): Linear {
    this.#packFor(gpu, rows);
    return new Linear(sharedWeight(gpu, this.weight, rows), this.bias, this.exact, this.scale);
  }

  /**
   * The layer of some of its inputs' channels, with or without the bias. Where an input is the outputs of others, one
   * behind the other, these need not be joined: the layer's result is the sum of the results for each. The weight belongs
   * to the enclosing scope.
   */
  ofInputs(gpu: Gpu, first: number, count: number, { bias }: { readonly bias: boolean }): Linear {
    const weight = columns(gpu, plainOperand(gpu, this.weight), first, count);
    return new Linear(weight, bias ? this.bias : undefined, this.exact, this.scale);
  }

  /** Holds the weight in the form that is read fastest for inputs of so many rows, from now on. */
  #packFor(gpu: Gpu, rows: number): void {
    if (!this.replace || gpu.tape || gpu.lists || rows === this.#rows) return;
    this.#rows = rows;
    gpu.scope(() => {
      const packed = sharedWeight(gpu, this.#weight, rows);
      if (packed === this.#weight) return;
      // Work that was recorded may be dropped after an error, but not what is submitted.
      gpu.submit();
      this.replace!(packed instanceof PackedOperand ? packed.tensor : packed);
      this.#weight = packed;
    });
  }

  #with(options?: LinearApplyOptions): LinearOptions {
    return { scale: this.scale, bias: this.bias, ...options, ...this.exact && { precision: "f32" } };
  }
}

/** The number of rows of an input. */
const rowsOf = ({ shape }: Operand) => shape.slice(0, -1).reduce((count, length) => count * length, 1);
