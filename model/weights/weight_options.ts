import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { combine } from "../../gpu/ops/combine.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { TensorSource } from "../checkpoint/tensor_source.ts";
import type { Family } from "../family.ts";
import { checkWeightDtype, type WeightDtypeChoice } from "./weight_dtype.ts";

/** A tensor that is added to one weight. */
export interface WeightDelta {
  /**
   * Computes a part of the delta.
   *
   * @returns f32: `count` rows of the first axis, from `start` on. It belongs to the enclosing scope
   */
  rows(start: number, count: number): Tensor;
}

/** Tensors that are added to the weights of a part while they are loaded, as by LoRA. */
export interface WeightDeltas {
  /** Its file, for messages. */
  readonly path: string;
  /** The bytes of its own tensors, which are on the GPU since it was opened. */
  readonly held: number;
  /** The most bytes beside them that a part of a delta needs. */
  readonly bytes: number;
  /** The family's names of all weights that it adds to. A name that the family does not know is as it is in the file. */
  readonly names: readonly string[];
  /**
   * The delta of a matrix or a vector.
   *
   * @param name the whole name, as the family has it
   * @returns undefined if the weight is loaded as it is
   * @throws {TilereelError} if it is for a weight of another shape
   */
  of(name: string, shape: readonly number[]): WeightDelta | undefined;
}

/** Tensors that are added to the weights of a model. */
export interface ModelDeltas extends Disposable {
  /** What is added to a part, by its name in {@link Family.parts}; undefined if nothing is. */
  of(part: string): WeightDeltas | undefined;
}

/**
 * Opens what is added to the weights of a model. The parts' {@link PartWeights.names} give the family's names for those
 * in files.
 *
 * @throws {TilereelError} if it cannot be read, or is for no model of the family
 */
export type OpenModelDeltas = (gpu: Gpu, family: Family) => Promise<ModelDeltas>;

/** How the weights of a part are loaded. */
export interface WeightOptions {
  /** The format of matrices on the GPU. Default: "auto" */
  readonly dtype?: WeightDtypeChoice | undefined;
  /**
   * What is added to the weights, in f32, before they are rounded to their format. Matrices become f16 if kernels cannot
   * write their format; int8 they can.
   */
  readonly adjust?: WeightDeltas | undefined;
  /** See `PartWeights.quantised`. Default: no matrix is */
  readonly quantised?: ((name: string) => boolean) | undefined;
}

/** The choices for the weights of a model. */
export interface WeightChoices {
  /**
   * In which number format the GPU holds the matrices of transformer and text encoder. "auto", the default: as stored,
   * but f32 as f16 where products hold their operands in f16, which changes no product, and the layers of blocks as int8
   * where the GPU was opened with precision "int8".
   */
  readonly weightDtype?: WeightDtypeChoice | undefined;
  /** Opens what is added to the weights while they are loaded; of several, the sum is added. */
  readonly adjust?: OpenModelDeltas | readonly OpenModelDeltas[] | undefined;
}

/** How the weights of each part are loaded, by the part's name. */
export type WeightOptionsOf = (part: string) => WeightOptions;

/**
 * Makes ready what is chosen for a model's weights. The pipeline and the trainings load all weights with it.
 *
 * @param choices where there is another `textEncoder`, nothing can be added to that which it replaces
 * @returns to be disposed of after what was loaded with it
 * @throws {TilereelError} as {@link OpenModelDeltas} does, if something is added to a part that is replaced, or if the
 * format of weights does not fit the device's precision
 */
export async function openWeightOptions(
  gpu: Gpu,
  family: Family,
  { weightDtype: dtype, adjust = [], textEncoder }: WeightChoices & { readonly textEncoder?: unknown },
): Promise<Disposable & { readonly of: WeightOptionsOf }> {
  using opened = new DisposableStack();
  const all: ModelDeltas[] = [];
  for (const open of [adjust].flat()) all.push(opened.use(await open(gpu, family)));
  const deltasOf = (part: string) => joined(gpu, all.map((deltas) => deltas.of(part)).filter((deltas) => !!deltas));
  for (const [part, { replacedBy }] of Object.entries(family.parts)) {
    const deltas = textEncoder && replacedBy?.includes("textEncoder") ? deltasOf(part) : undefined;
    if (!deltas) continue;
    throw new TilereelError(
      `${deltas.path} adds to the weights of ${part}, but another text encoder is used in its place; leave one of them out`,
    );
  }
  checkWeightDtype(gpu, dtype);
  const owned = opened.move();
  const optionsOf = (part: string) => ({
    ...{ dtype, adjust: deltasOf(part), quantised: family.parts[part]?.weights?.quantised },
  });
  return { of: optionsOf, [Symbol.dispose]: () => owned.dispose() };
}

/** The sum of what is added to a part; undefined where nothing is. */
function joined(gpu: Gpu, all: readonly WeightDeltas[]): WeightDeltas | undefined {
  if (all.length <= 1) return all[0];
  return {
    path: all.map(({ path }) => path).join(" and "),
    held: all.reduce((sum, { held }) => sum + held, 0),
    // The sum until then, the next delta, and the sum of both.
    bytes: 3 * Math.max(...all.map(({ bytes }) => bytes)),
    names: [...new Set(all.flatMap(({ names }) => names))],
    of: (name, shape) => sumOf(gpu, all.map((deltas) => deltas.of(name, shape)).filter((delta) => !!delta)),
  };
}

/** The sum of deltas of one weight; undefined where there is none. */
export function sumOf(gpu: Gpu, deltas: readonly WeightDelta[]): WeightDelta | undefined {
  return deltas.length === 0 ? undefined : deltas.reduce((sum, delta) => ({
    rows: (start, count) => gpu.scope(() => combine(gpu, [[1, sum.rows(start, count)], [1, delta.rows(start, count)]])),
  }));
}

/** @throws {TilereelError} if something is to be added to weights that a part does not have */
export function checkDeltas(source: TensorSource, deltas: WeightDeltas | undefined): void {
  const [first, ...others] = deltas?.names.filter((name) => !source.has(name)) ?? [];
  if (first === undefined) return;
  throw new TilereelError(
    `${deltas!.path} adds to ${quoted(first)}${others.length > 0 ? ` and ${others.length} more` : ""}, which ` +
      `${source.path} does not have; use one that was made for this model`,
  );
}
