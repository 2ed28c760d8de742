import { elementCount, storedBytes } from "../../model/checkpoint/dtype.ts";
import { writeAtomically } from "../../model/files/output.ts";
import { normalBytes, repeated } from "../random.ts";
import type { MadeDtype } from "../shapes.ts";
import type { TensorSpec } from "./tensor_spec.ts";

/**
 * Writes tensors of random numbers into `folder` under diffusers' names: one file where they fit, else shards with an
 * index. Only a few megabytes are held at a time.
 *
 * @param shardBytes the largest size of a shard with several tensors
 * @returns the bytes of all tensors
 */
export async function writeRandomWeights(
  folder: string,
  tensors: readonly TensorSpec[],
  dtype: MadeDtype,
  shardBytes = 10 ** 9,
): Promise<number> {
  const stem = "diffusion_pytorch_model", shards: TensorSpec[][] = [];
  let size = Infinity, total = 0;
  for (const tensor of tensors) {
    const bytes = bytesOf(tensor, dtype);
    if (size + bytes > shardBytes) {
      shards.push([]);
      size = 0;
    }
    shards.at(-1)!.push(tensor);
    size += bytes;
    total += bytes;
  }
  const pad = (n: number) => String(n).padStart(5, "0"), weightMap: Record<string, string> = {};
  let written = 0;
  for (const [i, shard] of shards.entries()) {
    const part = shards.length === 1 ? "" : `-${pad(i + 1)}-of-${pad(shards.length)}`,
      name = `${stem}${part}.safetensors`;
    await writeShard(`${folder}/${name}`, shard, dtype, written);
    written += shard.length;
    for (const tensor of shard) weightMap[tensor.name] = name;
  }
  if (shards.length > 1) {
    const index = { metadata: { total_size: total }, weight_map: weightMap };
    await Deno.writeTextFile(`${folder}/${stem}.safetensors.index.json`, JSON.stringify(index, null, 2));
  }
  return total;
}

function bytesOf({ shape }: TensorSpec, dtype: MadeDtype): number {
  return storedBytes(dtype, elementCount(shape));
}

/** @param first the number of tensors in the shards before */
async function writeShard(path: string, tensors: readonly TensorSpec[], dtype: MadeDtype, first: number) {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let offset = 0;
  for (const tensor of tensors) {
    header[tensor.name] = { dtype, shape: tensor.shape, data_offsets: [offset, offset += bytesOf(tensor, dtype)] };
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

/** The byte of the random numbers at which the i-th tensor begins, so that tensors differ. */
export function startOf(i: number): number {
  return 4 * 7919 * i;
}

/** Weights of norms are about 1, and matrices keep activations of Wan's widths near 1. */
export function numbersFor({ name }: TensorSpec, dtype: MadeDtype): Uint8Array {
  const norm = /(\.gamma|norm\d?(_(added_)?[qk])?\.weight)$/.test(name);
  return normalBytes(dtype === "BF16" ? "bf16" : "f32", 0.02, norm ? 1 : 0);
}
