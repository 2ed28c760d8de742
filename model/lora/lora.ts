/**
 * LoRA (arXiv 2106.09685): low-rank updates that are added to a transformer's weights while these are loaded.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { combine } from "../../gpu/ops/combine.ts";
import { linear } from "../../gpu/ops/linear.ts";
import { sizeOf, type Tensor } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { fileAt } from "../files/disk.ts";
import type { StoredFile } from "../files/store.ts";
import type { OpenModelDeltas, WeightDelta } from "../weights/weight_options.ts";
import { type LoraUpdate, type LowRank, readLora } from "./lora_file.ts";

/** A LoRA and how strongly it is applied. */
export interface Lora {
  /** A safetensors file. */
  readonly file: string | StoredFile;
  /** Multiplies the update. Default: 1 */
  readonly strength?: number | undefined;
}

/** The part of a model that LoRAs change. */
const PART = "transformer";

/**
 * Adds LoRAs to a model's weights: W + Σ strength · α/r · up · down, in f32, before the sum is rounded. Where several
 * LoRAs change a weight, all are added.
 *
 * @returns for `LoadOptions.adjust`; what it opens holds the factors on the GPU
 */
export function loraDeltas(loras: readonly Lora[]): OpenModelDeltas {
  return async (gpu, family) => {
    const names = family.parts[PART]?.weights?.names ?? ((stored: string) => stored);
    using building = new TensorOwner(gpu);
    const terms = new Map<string, Term[]>();
    let largest = 0, held = 0;
    for (const { file, strength = 1 } of loras) {
      const { path } = fileAt(file);
      for (const [name, update] of await readLora(file, names)) {
        const made = termsOf(building, update, strength, path);
        terms.set(name, [...terms.get(name) ?? [], ...made]);
        for (const { shape, bytes } of made) [largest, held] = [Math.max(largest, 4 * sizeOf(shape)), held + bytes];
      }
    }
    const owned = building.move();
    const deltas = {
      path: loras.map(({ file }) => fileAt(file).path).join(" and "),
      names: [...terms.keys()],
      // Beside the factors there are at most a delta and the sum of two, of a piece of a weight.
      bytes: held + 2 * Math.min(largest, MOST_PIECE_BYTES),
      of: (name: string, shape: readonly number[]) => deltaOf(gpu, name, shape, terms.get(name)),
    };
    return { of: (part) => part === PART ? deltas : undefined, [Symbol.dispose]: () => owned[Symbol.dispose]() };
  };
}

/** Weights are loaded in pieces of at most 32 MiB as they are stored, which may be four times as much in f32. */
const MOST_PIECE_BYTES = 128 * 2 ** 20;

/** One addend of a delta. */
interface Term {
  readonly path: string;
  /** Of the weight, all axes but the first as one. */
  readonly shape: readonly number[];
  /** On the GPU, as long as the model is used. */
  readonly bytes: number;
  /** As {@link WeightDelta.rows}, but for a factor: the term is `factor` times that. */
  rows(start: number, count: number): Tensor;
  readonly factor: number;
}

function termsOf(owner: TensorOwner, { factors, whole }: LoraUpdate, strength: number, path: string): Term[] {
  const { gpu } = owner;
  return [
    ...factors ? [{ path, ...lowRank(owner, factors), factor: strength * factors.scale }] : [],
    ...whole
      ? [{
        ...{ path, shape: flat(whole.shape), bytes: 0, factor: strength },
        // Such updates are mostly of vectors. They stay in this machine's memory.
        rows: (start: number, count: number) => {
          const row = whole.data.length / (whole.shape[0] ?? 1);
          return gpu.upload(whole.data.subarray(start * row, (start + count) * row), [count, row]);
        },
      }]
      : [],
  ];
}

function lowRank(owner: TensorOwner, { up, down, rank, shape }: LowRank) {
  const { gpu } = owner, [outputs, inputs] = shape;
  // A product's rows are a multiple of four numbers.
  const width = 4 * Math.ceil(rank / 4);
  const left = new Float32Array(outputs * width), right = new Float32Array(inputs * width);
  for (let i = 0; i < outputs; i++) left.set(up.subarray(i * rank, (i + 1) * rank), i * width);
  for (let r = 0; r < rank; r++) {
    for (let i = 0; i < inputs; i++) right[i * width + r] = down[r * inputs + i]!;
  }
  const b = owner.adopt(gpu.upload(left, [outputs, width])), a = owner.adopt(gpu.upload(right, [inputs, width]));
  return {
    ...{ shape, bytes: b.bytes + a.bytes },
    rows: (start: number, count: number) => linear(gpu, b.rows(start, count), a, { precision: "f32" }),
  };
}

function deltaOf(gpu: Gpu, name: string, shape: readonly number[], terms?: readonly Term[]): WeightDelta | undefined {
  if (!terms) return undefined;
  for (const term of terms) {
    if (`${term.shape}` !== `${flat(shape)}`) {
      throw new TilereelError(
        `${term.path} changes ${name} by [${term.shape}], but the weight is [${shape}]: it was made for another model`,
      );
    }
  }
  return {
    rows: (start, count) =>
      terms.reduce<Tensor | undefined>((sum, { factor, rows }) => {
        const added = [factor, rows(start, count)] as const;
        return combine(gpu, sum ? [[1, sum], added] : [added]);
      }, undefined)!,
  };
}

/** A shape with all axes but the first as one. */
function flat([rows = 1, ...others]: readonly number[]): readonly [number, number] {
  return [rows, sizeOf(others)];
}
