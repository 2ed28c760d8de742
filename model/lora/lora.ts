/**
 * LoRA (arXiv 2106.09685): low-rank updates that are added to a model's weights while these are loaded.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { combine } from "../../gpu/ops/combine.ts";
import { linear } from "../../gpu/ops/linear.ts";
import { sizeOf } from "../../gpu/tensor.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";
import { fileAt } from "../files/disk.ts";
import type { StoredFile } from "../files/store.ts";
import { type OpenModelDeltas, sumOf, type WeightDelta, type WeightDeltas } from "../weights/weight_options.ts";
import { type LoraUpdate, type LowRank, readLora } from "./lora_file.ts";

/** A LoRA and how strongly it is applied. */
export interface Lora {
  /** A safetensors file. */
  readonly file: string | StoredFile;
  /** Multiplies the update. Default: 1 */
  readonly strength?: number | undefined;
}

/**
 * Adds LoRAs to a model's weights: W + Σ strength · α/r · up · down, in f32, before the sum is rounded. Where several
 * LoRAs change a weight, all are added.
 *
 * @returns for `LoadOptions.adjust`; what it opens holds the factors on the GPU
 */
export function loraDeltas(loras: readonly Lora[]): readonly OpenModelDeltas[] {
  return loras.map(({ file, strength = 1 }) => async (gpu, family) => {
    using building = new TensorOwner(gpu);
    const { path } = fileAt(file), parts = new Map<string, WeightDeltas>();
    for (const [part, updates] of await readLora(file, family)) {
      const terms = [...updates].map(([name, all]) =>
        [name, all.map((update) => termOf(building, update, strength))] as const
      );
      const shapes = terms.flatMap(([, all]) => all.map(({ shape }) => 4 * sizeOf(shape)));
      const byName = new Map(terms), several = terms.some(([, all]) => all.length > 1);
      parts.set(part, {
        path,
        names: [...byName.keys()],
        held: terms.flatMap(([, all]) => all).reduce((sum, { held }) => sum + held, 0),
        // A product of factors, and that times its scale; of two such deltas, each and their sum.
        bytes: (several ? 4 : 2) * Math.min(Math.max(...shapes), MOST_PIECE_BYTES),
        of: (name, shape) => sumOf(gpu, (byName.get(name) ?? []).map((term) => fitting(term, path, name, shape))),
      });
    }
    const owned = building.move();
    return { of: (part) => parts.get(part), [Symbol.dispose]: () => owned[Symbol.dispose]() };
  });
}

/** Weights are loaded in pieces of at most 32 MiB as they are stored, which may be four times as much in f32. */
const MOST_PIECE_BYTES = 128 * 2 ** 20;

/** One addend of a delta. */
interface Term extends WeightDelta {
  /** Of the weight, all axes but the first as one. */
  readonly shape: readonly number[];
  /** The bytes on the GPU, as long as the model is used. */
  readonly held: number;
}

/** Another kind of update than these two has its own case here. */
function termOf(owner: TensorOwner, update: LoraUpdate, strength: number): Term {
  const { gpu } = owner, shape = flat(update.shape);
  const { held, factor, rows } = "up" in update
    ? { ...lowRank(owner, update), factor: strength * update.scale }
    : { held: 0, factor: strength, rows: whole(gpu, update.data, shape[1]) };
  return {
    ...{ shape, held },
    rows: (start, count) => gpu.scope(() => combine(gpu, [[factor, rows(start, count)]])),
  };
}

/** Such updates are mostly of vectors. They stay in this machine's memory. */
function whole(gpu: Gpu, data: Float32Array, row: number): WeightDelta["rows"] {
  return (start, count) => gpu.upload(data.subarray(start * row, (start + count) * row), [count, row]);
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
    held: b.bytes + a.bytes,
    rows: (start: number, count: number) => linear(gpu, b.rows(start, count), a, { precision: "f32" }),
  };
}

/** @throws {TilereelError} if it is for a weight of another shape */
function fitting(term: Term, path: string, name: string, shape: readonly number[]): Term {
  if (`${term.shape}` === `${flat(shape)}`) return term;
  throw new TilereelError(
    `${path} changes ${name} by [${term.shape}], but the weight is [${shape}]: it was made for another model`,
  );
}

/** A shape with all axes but the first as one. */
function flat([rows = 1, ...others]: readonly number[]): readonly [number, number] {
  return [rows, sizeOf(others)];
}
