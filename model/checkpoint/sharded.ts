import { quoted, quotedValue, TilereelError } from "../../gpu/common/errors.ts";
import { fileOf, folderAt } from "../files/disk.ts";
import { isNotFound } from "../files/file_error.ts";
import type { FileStore, StoredFile } from "../files/store.ts";
import { isJsonObject, readJsonObject } from "./json.ts";
import { type Container, openContainer } from "./container.ts";
import { GGUF } from "./gguf.ts";
import { recogniseFile } from "./recognise.ts";
import { SAFETENSORS } from "./safetensors.ts";
import { TORCH } from "./torch_zip.ts";
import type { TensorSource } from "./tensor_source.ts";
import { type StoredAs, TensorView } from "./tensor_view.ts";
import { getIt } from "./unfinished.ts";

/** Endings of weight files. The message for missing weights names such a file. */
const WEIGHT_FILES = /\.(bin|pth?|ckpt|gguf|msgpack|h5|onnx)$/;

/** Of a file, on all common systems. */
const LONGEST_NAME = 255;

/** The kinds of files that weights are read from, the preferred one first. */
const CONTAINERS: readonly Container[] = [SAFETENSORS, GGUF, TORCH];
const ENDINGS = CONTAINERS.map(({ ending }) => ending);
const WANTED = "a safetensors or GGUF file";

/**
 * Opens the weights at `place`: a single file, or a folder whose files are called `stem` ("diffusion_pytorch_model" in
 * diffusers' parts, "model" in transformers'). In a folder these are `<stem>.safetensors` (or another container's ending)
 * or `<stem>.safetensors.index.json`, or else their bf16 or fp16 variant. All headers are read and checked; tensors are read
 * when asked for.
 *
 * @throws {TilereelError} if there are none, a shard is missing, or a file is truncated or corrupt.
 */
export async function openCheckpoint(place: string | FileStore | StoredFile, stem: string): Promise<TensorSource> {
  const folder = typeof place === "object" && place !== null ? place : folderAt(place), { path } = folder;
  if (!("list" in folder) || await folder.kind() === "file") {
    return await openContainer(fileOf(folder), WANTED, CONTAINERS);
  }
  for (const { ending, hasIndex } of CONTAINERS) {
    for (const variant of ["", ".bf16", ".fp16"]) {
      const single = folder.file(`${stem}${variant}.${ending}`);
      if (await single.kind()) return await openContainer(single, WANTED, CONTAINERS);
      if (!hasIndex) continue;
      const index = folder.file(`${stem}.${ending}.index${variant}.json`);
      if (await index.kind()) return await openShards(folder, index);
    }
  }
  const expected = `${stem}.safetensors or ${stem}.safetensors.index.json`;
  const there = await folder.list().catch((error) => {
    if (isNotFound(error)) throw error;
    return []; // a store that cannot list
  });
  const other = there.sort().find((name) => WEIGHT_FILES.test(name));
  if (other === undefined) {
    throw new TilereelError(
      `${path} holds no weights; ${expected} was expected, so ${await getIt(folder, "copy or download it")}`,
    );
  }
  const todo = ENDINGS.some((ending) => other.endsWith(`.${ending}`))
    ? "name that file itself"
    : "convert it to safetensors";
  throw new TilereelError(`${path} holds no safetensors weights (${expected}), only ${other}; ${todo}`);
}

/** Whether there is a folder, or a file that is recognised as one of weights. */
export async function holdsWeights(place: FileStore): Promise<boolean> {
  if (await place.kind() !== "file") return await place.kind() === "folder";
  const { kind } = await recogniseFile(fileOf(place));
  return kind !== "unknown" && CONTAINERS.some(({ kinds }) => kinds.includes(kind));
}

async function openShards(folder: FileStore, index: StoredFile): Promise<TensorSource> {
  const { path } = index, weightMap = readWeightMap(path, (await readJsonObject(index)).weight_map);
  const shards = new Map<string, TensorSource>();
  try {
    for (const shard of new Set(weightMap.values())) {
      shards.set(shard, await openShard(folder, shard, index.name));
    }
    const tensors = new Map<string, StoredAs>();
    for (const [name, shard] of weightMap) {
      const source = shards.get(shard)!;
      if (!source.has(name)) {
        throw new TilereelError(
          `${path} says that ${shard} holds the tensor ${quoted(name)}, but it does not; copy or download both again`,
        );
      }
      tensors.set(name, { source, name });
    }
    return new TensorView(path, tensors, [...shards.values()]);
  } catch (error) {
    for (const shard of shards.values()) shard.close();
    throw error;
  }
}

function readWeightMap(path: string, value: unknown): Map<string, string> {
  if (!isJsonObject(value)) {
    throw new TilereelError(`${path} has no "weight_map" object that says which file holds which tensor`);
  }
  const weightMap = new Map<string, string>();
  for (const [name, shard] of Object.entries(value)) {
    if (
      typeof shard !== "string" || shard === "" || shard === "." || shard === ".." || shard.length > LONGEST_NAME ||
      /[/\\\0]/.test(shard)
    ) {
      throw new TilereelError(
        `${path} places the tensor ${quoted(name)} in ${quotedValue(shard)}; the name of a file beside it was expected`,
      );
    }
    weightMap.set(name, shard);
  }
  return weightMap;
}

async function openShard(folder: FileStore, shard: string, indexName: string): Promise<TensorSource> {
  const file = folder.file(shard);
  try {
    return await openContainer(file, WANTED, CONTAINERS);
  } catch (error) {
    if (isNotFound(error)) {
      throw new TilereelError(
        `${file.path} is missing: ${indexName} lists it as one of the shards; ` +
          await getIt(folder, "copy or download it into this folder"),
      );
    }
    throw error;
  }
}
