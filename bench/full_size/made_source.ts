import { TilereelError } from "../../gpu/common/errors.ts";
import { elementCount, storedBytes } from "../../model/checkpoint/dtype.ts";
import type { TensorInfo, TensorSource } from "../../model/checkpoint/tensor_source.ts";
import { repeated } from "../random.ts";
import type { MadeDtype } from "../shapes.ts";
import { numbersFor, startOf } from "./random_weights.ts";
import type { TensorSpec } from "./tensor_spec.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/**
 * A source of tensors that are made up when they are read, without a file.
 *
 * @param path what the source is called in messages
 * @param bytes makes bytes of a tensor, which is the `index`-th one
 */
export function madeSource(
  path: string,
  tensors: readonly TensorSpec[],
  dtype: MadeDtype,
  bytes: (tensor: TensorSpec, index: number, start: number, length: number) => Bytes,
): TensorSource {
  const found = new Map(tensors.map(({ name, shape }, index) => {
    const info: TensorInfo = { name, dtype, shape, bytes: storedBytes(dtype, elementCount(shape)), file: path };
    return [name, { info, index }];
  }));
  const tensor = (name: string) => {
    const entry = found.get(name);
    if (!entry) throw new TilereelError(`${path} have no tensor "${name}"`);
    return entry;
  };
  const part = (name: string, start: number, length: number) => {
    const { info, index } = tensor(name);
    return bytes(info, index, start, length);
  };
  return {
    path,
    metadata: {},
    names: () => [...found.keys()],
    has: (name) => found.has(name),
    info: (name) => tensor(name).info,
    read: (name) => Promise.resolve(part(name, 0, tensor(name).info.bytes)),
    readRange: (name, start, length) => Promise.resolve(part(name, start, length)),
    readRows: (name, rows) => {
      const { shape, bytes } = tensor(name).info, length = bytes / shape[0]!, wanted = [...rows];
      const out = new Uint8Array(wanted.length * length);
      for (const [i, row] of wanted.entries()) out.set(part(name, row * length, length), i * length);
      return Promise.resolve(out);
    },
    close() {},
    [Symbol.dispose]() {},
  };
}

/** A source of the numbers that `writeRandomWeights` would write. */
export function randomSource(tensors: readonly TensorSpec[], dtype: MadeDtype = "BF16"): TensorSource {
  return madeSource("random weights", tensors, dtype, (tensor, index, start, length) => {
    const bytes = new Uint8Array(length);
    let at = 0;
    for (const piece of repeated(numbersFor(tensor, dtype), startOf(index) + start, length)) {
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes;
  });
}

let shared: Bytes = new Uint8Array(0);

/** A source of zeros, for a dry device, which needs shapes only. All tensors share them: clearing gigabytes is slow. */
export function drySource(tensors: readonly TensorSpec[], dtype: MadeDtype): TensorSource {
  return madeSource("dry weights", tensors, dtype, (_tensor, _index, _start, length) => {
    if (shared.length < length) shared = new Uint8Array(length);
    return shared.subarray(0, length);
  });
}
