/**
 * Random weights straight to the GPU, without files.
 *
 * @module
 */
import { TilereelError } from "../../gpu/common/errors.ts";
import type { TensorInfo, TensorSource } from "../../model/checkpoint/tensor_source.ts";
import { repeated } from "../random.ts";
import { numbersFor, startOf } from "./random_weights.ts";
import type { TensorSpec } from "./tensor_spec.ts";

/** A source of such tensors in bf16, with the numbers that `writeRandomWeights` would write. */
export function randomSource(tensors: readonly TensorSpec[]): TensorSource {
  const path = "random weights";
  const found = new Map(tensors.map(({ name, shape }, i) => {
    const bytes = 2 * shape.reduce((a, b) => a * b);
    const info: TensorInfo = { name, dtype: "BF16", shape, bytes, file: path };
    return [name, { info, block: numbersFor({ name, shape }, "BF16"), start: startOf(i) }];
  }));
  const tensor = (name: string) => {
    const entry = found.get(name);
    if (!entry) throw new TilereelError(`${path} have no tensor "${name}"`);
    return entry;
  };
  const readRange = (name: string, byteStart: number, byteLength: number) => {
    const { block, start } = tensor(name);
    const bytes = new Uint8Array(byteLength);
    let at = 0;
    for (const piece of repeated(block, start + byteStart, byteLength)) {
      bytes.set(piece, at);
      at += piece.length;
    }
    return Promise.resolve(bytes);
  };
  return {
    path,
    metadata: {},
    names: () => [...found.keys()],
    has: (name) => found.has(name),
    info: (name) => tensor(name).info,
    read: (name) => readRange(name, 0, tensor(name).info.bytes),
    readRange,
    readRows: async (name, rows) => {
      const { shape, bytes } = tensor(name).info;
      const length = bytes / shape[0]!, wanted = [...rows];
      const out = new Uint8Array(wanted.length * length);
      for (const [i, row] of wanted.entries()) out.set(await readRange(name, row * length, length), i * length);
      return out;
    },
    close() {},
    [Symbol.dispose]() {},
  };
}
