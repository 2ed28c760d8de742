/**
 * The interface of a parity case.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { openSafetensors, readFloat32, type TensorSource, toNumbers } from "../checkpoint/safetensors.ts";
import type { Bounds } from "./bounds.ts";
import { relativeError, rowError } from "./measures.ts";

/** One comparison with a reference. */
export interface Check {
  readonly name: string;
  /** A relative error, decibels, or a number of differing items. */
  readonly value: number;
  readonly unit: "relative" | "dB" | "differing";
  /** The bound: the largest value that passes; for decibels, the smallest. */
  readonly bound: number;
}

/** Whether a check is within its bound. */
export function passes({ value, unit, bound }: Check): boolean {
  return unit === "dB" ? value >= bound : value <= bound;
}

/** The devices and the model that cases run on. */
export interface ParityContext {
  /** The adapter, as it is used for rendering: in f32 and then, if it has shader-f16, in f16. */
  readonly gpus: readonly [Gpu, ...Gpu[]];
  /** Folder of the model that made the references named `demo_*` and `tokens.json`. */
  readonly model: string;
}

/** A file or folder of references, recognised by its name. */
export interface ParityCase {
  readonly matches: RegExp;
  /** Runs it and yields each comparison as it is made. */
  run(path: string, context: ParityContext): AsyncIterable<Check>;
}

/** The name of a check on a part that ran on `gpu`. */
export function forwardName(path: string, what: string, gpu: Gpu): string {
  const file = path.split("/").at(-1)!.replace(/\.safetensors$/, "");
  return `${file} ${what}${gpu.f16 ? " (f16)" : ""}`;
}

/**
 * Compares all numbers with their reference, and the row that differs most.
 *
 * @param name as made by {@link forwardName}
 * @param row the number of elements of a row: of a token, of one head of a token, or of a row of pixels
 */
export function* compareRows(
  name: string,
  gpu: Gpu,
  bounds: Bounds,
  out: ArrayLike<number>,
  ref: ArrayLike<number>,
  row: number,
): Iterable<Check> {
  const [all, worst] = bounds[gpu.settings.precision];
  yield { name, value: relativeError(out, ref), unit: "relative", bound: all };
  yield { name: `${name}, worst row`, value: rowError(out, ref, row), unit: "relative", bound: worst };
}

/** References in a safetensors file. */
export class References implements Disposable {
  private constructor(readonly source: TensorSource) {}

  static async open(path: string): Promise<References> {
    return new References(await openSafetensors(path));
  }

  /** The numbers of a tensor of any format; integers up to 2²⁴ exactly. */
  async read(name: string): Promise<Float32Array> {
    const { dtype } = this.source.info(name);
    if (/^[FB]/.test(dtype)) return await readFloat32(this.source, name);
    return Float32Array.from(toNumbers(await this.source.read(name), dtype));
  }

  async upload(gpu: Gpu, name: string): Promise<Tensor> {
    return gpu.upload(await this.read(name), this.source.info(name).shape);
  }

  /** The number of elements of a row: the last axis. */
  row(name: string): number {
    return this.source.info(name).shape.at(-1)!;
  }

  /** A value of the header, where the fixtures store JSON. */
  setting<T>(name: string): T {
    return JSON.parse(this.source.metadata[name] ?? "null") as T;
  }

  [Symbol.dispose](): void {
    this.source.close();
  }
}
