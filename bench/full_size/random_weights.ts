/**
 * Weight files full of random numbers, of any size, without holding more than a few megabytes.
 *
 * @module
 */
import { writeAtomically } from "../../model/files/output.ts";
import { normalBytes, repeated } from "../random.ts";
import type { TensorSpec } from "./tensor_spec.ts";

/** Number formats of the files. */
export type StoredDtype = "F32" | "BF16";

const WIDTH: Readonly<Record<StoredDtype, number>> = { F32: 4, BF16: 2 };
/** A shard ends before it would be larger. */
const SHARD_BYTES = 10 ** 9;

/**
 * Writes tensors into `folder` under diffusers' names: one file where they fit, else shards with an index.
 *
 * @returns bytes of all tensors
 */
export async function writeRandomWeights(
  folder: string,
  tensors: readonly TensorSpec[],
  dtype: StoredDtype,
  shardBytes = SHARD_BYTES,
): Promise<number> {
  const stem = "diffusion_pytorch_model";
  const shards: TensorSpec[][] = [[]];
  let size = 0, total = 0;
  for (const tensor of tensors) {
    const bytes = bytesOf(tensor, dtype);
    if (size > 0 && size + bytes > shardBytes) {
      shards.push([]);
      size = 0;
    }
    shards.at(-1)!.push(tensor);
    size += bytes;
    total += bytes;
  }
  if (shards.length === 1) {
    await writeShard(`${folder}/${stem}.safetensors`, tensors, dtype, 0);
    return total;
  }
  const pad = (n: number) => String(n).padStart(5, "0");
  const weightMap: Record<string, string> = {};
  let written = 0;
  for (const [i, shard] of shards.entries()) {
    const name = `${stem}-${pad(i + 1)}-of-${pad(shards.length)}.safetensors`;
    await writeShard(`${folder}/${name}`, shard, dtype, written);
    written += shard.length;
    for (const tensor of shard) weightMap[tensor.name] = name;
  }
  const index = { metadata: { total_size: total }, weight_map: weightMap };
  await Deno.writeTextFile(`${folder}/${stem}.safetensors.index.json`, JSON.stringify(index, null, 2));
  return total;
}

function bytesOf({ shape }: TensorSpec, dtype: StoredDtype): number {
  return WIDTH[dtype] * shape.reduce((a, b) => a * b);
}

/** @param first how many tensors the shards before have */
async function writeShard(
  path: string,
  tensors: readonly TensorSpec[],
  dtype: StoredDtype,
  first: number,
): Promise<void> {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let offset = 0;
  for (const tensor of tensors) {
    header[tensor.name] = {
      dtype,
      shape: tensor.shape,
      data_offsets: [offset, offset += bytesOf(tensor, dtype)],
    };
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const start = new Uint8Array(8 + Math.ceil(json.length / 8) * 8).fill(0x20);
  new DataView(start.buffer).setBigUint64(0, BigInt(start.length - 8), true);
  start.set(json, 8);
  const pieces = function* (): Generator<Uint8Array> {
    yield start;
    for (const [i, tensor] of tensors.entries()) {
      yield* repeated(numbersFor(tensor, dtype), startOf(first + i), bytesOf(tensor, dtype));
    }
  };
  await writeAtomically(path, (temporary) => Deno.writeFile(temporary, ReadableStream.from(pieces())));
}

/** Where in the random numbers the i-th tensor begins: elsewhere than the others. */
export function startOf(i: number): number {
  return 4 * 7919 * i;
}

/** Norms scale by about 1, biases add little, and matrices keep activations of Wan's widths near 1. */
export function numbersFor({ name }: TensorSpec, dtype: StoredDtype): Uint8Array {
  const norm = /(\.gamma|norm\d?(_[qk])?\.weight)$/.test(name);
  return normalBytes(dtype === "BF16" ? "bf16" : "f32", 0.02, norm ? 1 : 0);
}
