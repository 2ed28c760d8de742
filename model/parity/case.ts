import type { Gpu } from "../../gpu/gpu.ts";
import { Tensor } from "../../gpu/tensor.ts";
import { openModelFolder } from "../checkpoint/model_folder.ts";
import { openSafetensors } from "../checkpoint/safetensors.ts";
import { readNumbers, type TensorSource } from "../checkpoint/tensor_source.ts";
import { relativeError } from "../../gpu/relative_error.ts";
import { folderAt } from "../files/disk.ts";
import type { Bounds } from "./bounds.ts";
import { rowError } from "./measures.ts";

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

/** References in a safetensors file. */
export class References implements Disposable {
  private constructor(readonly source: TensorSource) {}

  static async open(path: string): Promise<References> {
    return new References(await openSafetensors(path));
  }

  /** The numbers of a tensor of any format; integers up to 2²⁴ exactly. */
  async read(name: string): Promise<Float32Array> {
    return await readNumbers(this.source, name);
  }

  async upload(gpu: Gpu, name: string): Promise<Tensor> {
    return gpu.upload(await this.read(name), this.source.info(name).shape);
  }

  /**
   * As {@link read}, token by token, [tokens, heads, …]. Files of attention store heads first, [heads, tokens, …].
   *
   * @param some the number of tokens, where the tensor has other ones than the operands
   */
  async byToken(name: string, some?: number): Promise<Float32Array> {
    const [heads, all] = this.source.info("q").shape.slice(-3) as [number, number], tokens = some ?? all;
    const x = await this.read(name), y = new Float32Array(x.length), size = x.length / (heads * tokens);
    for (let h = 0; h < heads; h++) {
      for (let t = 0; t < tokens; t++) {
        const from = (h * tokens + t) * size;
        y.set(x.subarray(from, from + size), (t * heads + h) * size);
      }
    }
    return y;
  }

  /** The operands of attention, [1, tokens, heads · head dim]. */
  async uploadQkv(gpu: Gpu): Promise<{ q: Tensor; k: Tensor; v: Tensor }> {
    const [heads, tokens, headDim] = this.source.info("q").shape.slice(-3) as [number, number, number];
    const upload = async (name: string) => gpu.upload(await this.byToken(name), [1, tokens, heads * headDim]);
    return { q: await upload("q"), k: await upload("k"), v: await upload("v") };
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

/** Where a part and its references are: in a folder `tiny_*`, or in the model under test and a file `demo_*`. */
export async function partAt(path: string, part: string, { model }: ParityContext) {
  return path.endsWith(".safetensors")
    ? { folder: await (await openModelFolder(model)).component(part), file: path, isTiny: false }
    : { folder: folderAt(path), file: `${path}/reference.safetensors`, isTiny: true };
}

/** What a check expects, where it is not the reference of the check's own name. */
export interface Expected {
  /** The name of the reference. */
  readonly reference?: string;
  /** The numbers. Default: those of `reference` */
  readonly numbers?: ArrayLike<number>;
  /** The number of elements of a row: of a token, of one head of a token, of a row of pixels. Default: the last axis */
  readonly row?: number;
}

/** Checks of what ran on one device against a file of references. */
export class Checks {
  readonly #file: string;

  constructor(path: string, private readonly gpu: Gpu, private readonly references: References) {
    this.#file = path.split("/").at(-1)!.replace(/\.safetensors$/, "");
  }

  /** All numbers, and the row that differs most. */
  async *rows(
    what: string,
    bounds: Bounds,
    out: Tensor | ArrayLike<number>,
    { reference = what, numbers, row }: Expected = {},
  ): AsyncIterable<Check> {
    const values = out instanceof Tensor ? await this.gpu.read(out) : out;
    const expected = numbers ?? await this.references.read(reference);
    const name = this.#name(what), [all, worst] = bounds[this.gpu.settings.precision], unit = "relative";
    yield { name, value: relativeError(values, expected), unit, bound: all };
    const value = rowError(values, expected, row ?? this.references.row(reference));
    yield { name: `${name}, worst row`, value, unit, bound: worst };
  }

  /** All numbers together. */
  async relative(what: string, bound: number, out: ArrayLike<number>, reference = what): Promise<Check> {
    return this.error(what, bound, relativeError(out, await this.references.read(reference)));
  }

  /** An error that was measured otherwise. */
  error(what: string, bound: number, value: number, unit: Check["unit"] = "relative"): Check {
    return { name: this.#name(what), value, unit, bound };
  }

  /** A number of items that differ, of which none may. */
  differing(what: string, value: number): Check {
    return this.error(what, 0, value, "differing");
  }

  #name(what: string): string {
    return `${this.#file} ${what}${this.gpu.f16 ? " (f16)" : ""}`;
  }
}
