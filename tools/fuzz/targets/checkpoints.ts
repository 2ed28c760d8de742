import { openCheckpoint } from "../../../model/checkpoint/sharded.ts";
import { openSafetensors, readFloat32, type TensorSource } from "../../../model/checkpoint/safetensors.ts";
import { FLOAT_DTYPES } from "../../../model/checkpoint/dtype.ts";
import { writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import { memoryFile, memoryFolder } from "../../../model/files/memory.ts";
import { WAN } from "../../../model/wan/family.ts";
import { readLora } from "../../../model/lora/lora_file.ts";
import { fixture, fixtureFolder } from "../fixtures.ts";
import { mutateBytes } from "../mutate_bytes.ts";
import { mutateJson } from "../mutate_json.ts";
import { headerOf, mutateSafetensors, safetensorsBytes } from "../safetensors_bytes.ts";
import type { FuzzTarget } from "../target.ts";

/** Reads all tensors as a model would. */
export async function readAll(source: TensorSource): Promise<void> {
  using file = source;
  for (const name of file.names()) {
    if (FLOAT_DTYPES.includes(file.info(name).dtype)) await readFloat32(file, name);
    else await file.read(name);
  }
}

const read = async (bytes: Uint8Array) => await readAll(await openSafetensors(memoryFile("a.safetensors", bytes)));
const header = (text: string, data = 0) => read(safetensorsBytes(text, new Uint8Array(data)));
const none = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}';

export const safetensors: FuzzTarget = {
  reads: "weights as safetensors",
  open: async (folder) => {
    const path = `${folder}/a.safetensors`;
    await writeSafetensors(path, {
      a: { dtype: "F32", shape: [2, 3], data: new Float32Array(6) },
      b: { dtype: "BF16", shape: [4], data: new Uint16Array(4) },
      c: { dtype: "I64", shape: [], data: new BigInt64Array(1) },
    }, { config: '{"a":[1,2,{"b":null}]}', format: "pt" });
    const bytes = await Deno.readFile(path);
    return (dice) => read(mutateSafetensors(bytes, dice));
  },
  extremes: {
    "a header of 20 MB of brackets": () => header("[".repeat(2e7)),
    "a header of 16 MB of brackets": () => header("[".repeat(2 ** 24 - 8)),
    "metadata nested 5000 deep": () => header(`{"__metadata__":{"a":${"[".repeat(5000)}${"]".repeat(5000)}}}`),
    "a name of 10 MB": () => header(`{"${"x".repeat(1e7)}":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}`, 8),
    "a name that moves the cursor": () => header(`{"\\u001b[2J\\u0007":1}`),
    "the same name twice": () => header(`{"a":${none},"a":${none}}`),
    "the same name twice, once escaped": () => header(`{"a":${none},"\\u0061":${none}}`),
    "a shape of a million axes": () =>
      header(`{"a":{"dtype":"F32","shape":[${"1,".repeat(1e6)}1],"data_offsets":[0,4]}}`, 4),
    "300,000 tensors with a gap": () =>
      header(
        `{${
          Array.from({ length: 300_000 }, (_, i) => `"${i}":${none}`).join()
        },"z":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`,
        2,
      ),
  },
};

export const index: FuzzTarget = {
  reads: "weights in shards, with their index",
  open: async () => {
    const stem = "diffusion_pytorch_model", files = await fixtureFolder("tests/fixtures/tiny_hd64");
    const indexName = `${stem}.safetensors.index.json`, shards = Object.keys(files).filter((name) => /-of-/.test(name));
    const value = JSON.parse(new TextDecoder().decode(files[indexName]));
    return async (dice) => {
      const changed = { ...files };
      if (dice.once(4)) {
        const shard = dice.of(shards);
        changed[shard] = mutateSafetensors(files[shard]!, dice);
      } else changed[indexName] = new TextEncoder().encode(mutateJson(value, dice));
      await readAll(await openCheckpoint(memoryFolder(changed), stem));
    };
  },
  extremes: {
    "an index of 400 MB": () =>
      openCheckpoint(memoryFolder({ "m.safetensors.index.json": new Uint8Array(4e8).fill(0x20) }), "m"),
    "a shard with a name of a megabyte": () => {
      const text = JSON.stringify({ weight_map: { a: "x".repeat(1e6) } });
      return openCheckpoint(memoryFolder({ "m.safetensors.index.json": new TextEncoder().encode(text) }), "m");
    },
  },
};

export const gguf: FuzzTarget = {
  reads: "weights as GGUF",
  open: async () => {
    const bytes = await fixture("tests/fixtures/gguf/formats.gguf");
    return async (dice) =>
      await readAll(await openCheckpoint(memoryFile("a.gguf", mutateBytes(bytes, dice)) as never, ""));
  },
};

export const lora: FuzzTarget = {
  reads: "LoRAs",
  open: async () => {
    const all = await fixtureFolder("tests/fixtures/tiny_lora");
    const files = Object.entries(all).filter(([name]) => /^lora_/.test(name)).map(([, bytes]) => bytes);
    return (dice) => readLora(memoryFile("a.safetensors", mutateSafetensors(dice.of(files), dice)), WAN);
  },
  extremes: {
    "a key of a megabyte": async () => {
      const { header, data } = headerOf(await fixture("tests/fixtures/tiny_lora/lora_peft.safetensors"));
      const [name] = Object.keys(header).filter((key) => key !== "__metadata__");
      const text = JSON.stringify({ ...header, ["x".repeat(1e6)]: header[name!], [name!]: undefined });
      return await readLora(memoryFile("a.safetensors", safetensorsBytes(text, data)), WAN);
    },
  },
};
