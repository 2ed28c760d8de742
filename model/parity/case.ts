/**
 * What a parity case is.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { openSafetensors, readFloat32, type TensorSource, toNumbers } from "../checkpoint/safetensors.ts";

/** One comparison with a reference. */
export interface Check {
  readonly name: string;
  /** Relative error, decibels, or the number of differing items. */
  readonly value: number;
  readonly unit: "relative" | "dB" | "differing";
  /** The most that passes; the least, for decibels. */
  readonly bound: number;
}

/** Whether a check is within its bound. */
export function passes({ value, unit, bound }: Check): boolean {
  return unit === "dB" ? value >= bound : value <= bound;
}

/** Relative errors that one forward pass may have, by the precision of its operands. */
export const FORWARD_BOUNDS = { f32: 1e-4, f16: 5e-3 } as const;

/** Where cases are run. */
export interface ParityContext {
  /** The adapter as it is used for rendering, in f32; then, where it has shader-f16, in f16. */
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

/** Name of a check on a part that was run on `gpu`. */
export function forwardName(path: string, what: string, gpu: Gpu): string {
  const file = path.split("/").at(-1)!.replace(/\.safetensors$/, "");
  return `${file} ${what}${gpu.f16 ? " (f16)" : ""}`;
}

/** The bound of a forward pass on `gpu`. */
export function forwardBound(gpu: Gpu): number {
  return FORWARD_BOUNDS[gpu.settings.precision];
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

  /** A value of the header, which the fixtures keep as JSON. */
  setting<T>(name: string): T {
    return JSON.parse(this.source.metadata[name] ?? "null") as T;
  }

  [Symbol.dispose](): void {
    this.source.close();
  }
}
