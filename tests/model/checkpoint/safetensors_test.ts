import {
  type Dtype,
  expectTensor,
  openSafetensors,
  readFloat32,
  toFloat32,
  toNumbers,
} from "../../../model/checkpoint/safetensors.ts";
import { writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import { openCheckpoint } from "../../../model/checkpoint/sharded.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";

const DEMO = new URL("../../../model/demo/", import.meta.url).pathname;

/** Runs `test` in a folder that is gone afterwards. */
async function inFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** The bytes of a safetensors file with this header, as text or to be encoded, and `dataBytes` zeros. */
function fileBytes(header: unknown, dataBytes: number): Uint8Array {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

const f32 = (begin: number, end: number, ...shape: number[]) => ({ dtype: "F32", shape, data_offsets: [begin, end] });

Deno.test("what is written is read back", () =>
  inFolder(async (folder) => {
    const path = `${folder}/a.safetensors`;
    await writeSafetensors(path, {
      matrix: { dtype: "F32", shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) },
      scalar: { dtype: "F32", shape: [], data: Float32Array.of(-0.5) },
      none: { dtype: "F16", shape: [0, 4], data: new Uint8Array(0) },
      bytes: { dtype: "U8", shape: [3], data: Uint8Array.of(7, 8, 9) },
      __proto__x: { dtype: "I64", shape: [1], data: BigInt64Array.of(-5n) },
    }, { made: "by a test" });
    using file = await openSafetensors(path);
    assertEquals(file.metadata, { made: "by a test" });
    assertEquals(file.names().sort(), ["__proto__x", "bytes", "matrix", "none", "scalar"]);
    assertEquals(file.info("matrix").shape, [2, 3]);
    assertEquals(file.info("matrix").bytes, 24);
    assertEquals([...await readFloat32(file, "matrix")], [1, 2, 3, 4, 5, 6]);
    assertEquals([...await readFloat32(file, "scalar")], [-0.5]);
    assertEquals((await file.read("none")).length, 0);
    assertEquals(toNumbers(await file.read("bytes"), "U8"), [7, 8, 9]);
    assertEquals(toNumbers(await file.read("__proto__x"), "I64"), [-5]);
    assertEquals([...Deno.readDirSync(folder)].length, 1);
  }));

Deno.test("reads that overlap in time don't mix", () =>
  inFolder(async (folder) => {
    const path = `${folder}/a.safetensors`;
    const tensors = Object.fromEntries(
      Array.from({ length: 20 }, (_, i) => [`t${i}`, {
        dtype: "F32" as Dtype,
        shape: [1000],
        data: new Float32Array(1000).fill(i),
      }]),
    );
    await writeSafetensors(path, tensors);
    using file = await openSafetensors(path);
    const values = await Promise.all(Array.from({ length: 20 }, (_, i) => readFloat32(file, `t${i}`)));
    values.forEach((value, i) => assert(value.every((x) => x === i)));
  }));

Deno.test("rows and ranges", () =>
  inFolder(async (folder) => {
    const path = `${folder}/a.safetensors`;
    const data = Float32Array.from({ length: 20 }, (_, i) => i);
    await writeSafetensors(path, { table: { dtype: "F32", shape: [5, 2, 2], data } });
    using file = await openSafetensors(path);
    const rows = toFloat32(await file.readRows("table", Int32Array.of(4, 0, 4, 1)), "F32");
    assertEquals([...rows], [16, 17, 18, 19, 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7]);
    assertEquals((await file.readRows("table", [])).length, 0);
    for (const row of [5, -1, 0.5]) {
      await assertRejects(() => file.readRows("table", [0, row]), TilereelError, `has 5 rows, but row ${row}`);
    }
    assertEquals([...toFloat32(await file.readRange("table", 8, 12), "F32")], [2, 3, 4]);
    await assertRejects(() => file.readRange("table", 76, 8), RangeError);
  }));

Deno.test("BF16 and F16, with the values at the edges", () => {
  const halves = (...bits: number[]) => new Uint8Array(Uint16Array.from(bits).buffer);
  assertEquals(
    [...toFloat32(halves(0x3f80, 0xc049, 0x0001, 0x8000, 0x7f80, 0xff80, 0x7f7f, 0x7fc0), "BF16")],
    [1, -3.140625, 2 ** -133, -0, Infinity, -Infinity, (2 - 2 ** -7) * 2 ** 127, NaN],
  );
  assertEquals(
    [...toFloat32(halves(0x3c00, 0xc000, 0x0001, 0x03ff, 0x0400, 0x8000, 0x7c00, 0xfc00, 0x7bff, 0x7e00), "F16")],
    [1, -2, 2 ** -24, 1023 * 2 ** -24, 2 ** -14, -0, Infinity, -Infinity, 65504, NaN],
  );
  assertEquals([...toFloat32(new Uint8Array(Float64Array.of(1.5, -1e300).buffer), "F64")], [1.5, -Infinity]);
  // A view that starts at an odd byte.
  const odd = new Uint8Array(9);
  odd.set(new Uint8Array(Float32Array.of(2.5, -7).buffer), 1);
  assertEquals([...toFloat32(odd.subarray(1), "F32")], [2.5, -7]);
  assertThrows(() => toFloat32(new Uint8Array(4), "I32"), TilereelError, "I32");
  assertThrows(() => toNumbers(new Uint8Array(4), "F32"), TilereelError, "F32");
  assertThrows(() => toNumbers(new Uint8Array(BigInt64Array.of(2n ** 60n).buffer), "I64"), TilereelError, "too large");
  assertEquals(toNumbers(new Uint8Array(Int16Array.of(-3, 4).buffer), "I16"), [-3, 4]);
});

const HOSTILE: [string, Uint8Array, string][] = [
  ["an empty file", new Uint8Array(0), "is empty, but a safetensors file was expected"],
  ["no whole header length", new Uint8Array(5), "is truncated"],
  ["half a header", fileBytes({ a: f32(0, 4, 1) }, 4).subarray(0, 20), "is truncated"],
  ["half its data", fileBytes({ a: f32(0, 40, 10) }, 39), "is truncated"],
  ["a giant header", new Uint8Array(64).fill(0xff), "its header would be 16777216 TiB long"],
  [
    "a zip archive",
    new TextEncoder().encode("PK\x03\x04 and so on, as a .bin or .pth begins"),
    "is a zip archive, but",
  ],
  ["a header that is not JSON", fileBytes("{oh no", 0), "its header is not JSON"],
  ["a header that is not UTF-8", fileBytes("{}", 0).map((x) => x === 0x7d ? 0xff : x), "its header is not JSON"],
  ["a header that is a list", fileBytes([], 0), "its header is not a JSON object"],
  ["metadata of numbers", fileBytes({ __metadata__: { a: 1 } }, 0), "its __metadata__ is not"],
  ["an entry that is a number", fileBytes({ a: 3 }, 0), 'its entry of tensor "a" is not a JSON object'],
  ["an unknown dtype", fileBytes({ a: { ...f32(0, 4, 1), dtype: "F4" } }, 4), 'tensor "a" has the dtype "F4"'],
  ["a dtype of Object's", fileBytes({ a: { ...f32(0, 4, 1), dtype: "toString" } }, 4), 'the dtype "toString"'],
  ["no dtype", fileBytes({ a: { ...f32(0, 4, 1), dtype: undefined } }, 4), 'tensor "a" has no dtype'],
  ["a negative size", fileBytes({ a: f32(0, 4, -1, -1) }, 4), 'the shape of tensor "a"'],
  ["a fractional size", fileBytes({ a: f32(0, 4, 0.5, 2) }, 4), 'the shape of tensor "a"'],
  ["a huge shape", fileBytes({ a: f32(0, 4, 2 ** 50, 2 ** 50) }, 4), "too few for F32"],
  ["a shape that is a string", fileBytes({ a: { ...f32(0, 4), shape: "1" } }, 4), 'the shape of tensor "a"'],
  ["one offset", fileBytes({ a: { ...f32(0, 4, 1), data_offsets: [0] } }, 4), 'the data_offsets of tensor "a"'],
  ["a negative offset", fileBytes({ a: f32(-4, 0, 1) }, 4), 'the data_offsets of tensor "a"'],
  ["offsets backwards", fileBytes({ a: f32(4, 0, 1) }, 4), 'tensor "a" has 8 bytes too few'],
  [
    "offsets that don't match the shape",
    fileBytes({ a: f32(0, 8, 1) }, 8),
    "has 4 bytes too many for F32 [1], which takes 4 bytes",
  ],
  ["overlapping tensors", fileBytes({ a: f32(0, 8, 2), b: f32(4, 12, 2) }, 12), 'tensor "b" overlaps'],
  ["the same bytes twice", fileBytes({ a: f32(0, 4, 1), b: f32(0, 4, 1) }, 4), "overlaps"],
  ["a gap", fileBytes({ a: f32(0, 4, 1), b: f32(8, 12, 1) }, 12), 'a gap before tensor "b"'],
  ["bytes behind the last tensor", fileBytes({ a: f32(0, 4, 1) }, 5), "it has 1 byte more than its header describes"],
];

for (const [name, bytes, message] of HOSTILE) {
  Deno.test(`a file with ${name} is refused`, () =>
    inFolder(async (folder) => {
      const path = `${folder}/a.safetensors`;
      await Deno.writeFile(path, bytes);
      await assertRejects(() => openSafetensors(path), TilereelError, message);
      await assertRejects(() => openSafetensors(path), TilereelError, path);
    }));
}

Deno.test("a missing file, a folder and a missing tensor are named", () =>
  inFolder(async (folder) => {
    await assertRejects(() => openSafetensors(`${folder}/b`), TilereelError, `${folder}/b does not exist`);
    await assertRejects(() => openSafetensors(folder), TilereelError, folder);
    await writeSafetensors(`${folder}/a`, {});
    using file = await openSafetensors(`${folder}/a`);
    assertThrows(() => file.info("x"), TilereelError, 'holds no tensor "x"');
    await assertRejects(() => file.read("toString"), TilereelError, 'holds no tensor "toString"');
  }));

Deno.test("a file that shrinks while it is open is noticed", () =>
  inFolder(async (folder) => {
    const path = `${folder}/a`;
    await writeSafetensors(path, { a: { dtype: "F32", shape: [100], data: new Float32Array(100) } });
    using file = await openSafetensors(path);
    await Deno.truncate(path, 200);
    await assertRejects(() => file.read("a"), TilereelError, "ended while it was read");
  }));

Deno.test("expectTensor checks shape and dtype", () =>
  inFolder(async (folder) => {
    const path = `${folder}/a`;
    await writeSafetensors(path, {
      good: { dtype: "BF16", shape: [2, 3], data: new Uint8Array(12) },
      bytes: { dtype: "I8", shape: [2], data: new Uint8Array(2) },
    });
    using file = await openSafetensors(path);
    assertEquals(expectTensor(file, "good", [2, 3]).dtype, "BF16");
    for (const shape of [[3, 2], [6], [2, 3, 1]]) {
      assertThrows(
        () => expectTensor(file, "good", shape),
        TilereelError,
        `tensor "good" in ${path} has the shape [2, 3], but [${shape.join(", ")}] was expected`,
      );
    }
    assertThrows(() => expectTensor(file, "bytes", [2]), TilereelError, "is stored as I8");
    assertThrows(() => expectTensor(file, "absent", [2]), TilereelError, 'holds no tensor "absent"');
  }));

Deno.test("writing fails with a sentence and leaves nothing", () =>
  inFolder(async (folder) => {
    await Deno.mkdir(`${folder}/taken`);
    await assertRejects(() => writeSafetensors(`${folder}/taken`, {}), TilereelError, "cannot write");
    const short = { a: { dtype: "F32" as const, shape: [2], data: new Float32Array(1) } };
    await assertRejects(() => writeSafetensors(`${folder}/a`, short), RangeError, '"a"');
    assertEquals([...Deno.readDirSync(folder)].map((entry) => entry.name), ["taken"]);
  }));

Deno.test("the demo's sharded transformer", async () => {
  const folder = `${DEMO}transformer`;
  using sharded = await openCheckpoint(folder, "diffusion_pytorch_model");
  const index = JSON.parse(
    await Deno.readTextFile(`${folder}/diffusion_pytorch_model.safetensors.index.json`),
  ) as { weight_map: Record<string, string>; metadata: { total_size: number } };
  assertEquals(sharded.names().sort(), Object.keys(index.weight_map).sort());
  assertEquals(sharded.names().reduce((sum, name) => sum + sharded.info(name).bytes, 0), index.metadata.total_size);
  assertEquals(sharded.info("patch_embedding.weight").shape, [256, 16, 1, 2, 2]);
  expectTensor(sharded, "blocks.7.ffn.net.2.weight", [256, 1024]);

  const name = "blocks.7.ffn.net.2.weight";
  using shard = await openSafetensors(`${folder}/${index.weight_map[name]}`);
  assertEquals(await sharded.read(name), await shard.read(name));
  assertEquals(await sharded.readRows(name, [3]), await shard.readRange(name, 3 * 2048, 2048));
  assertThrows(() => sharded.info("blocks.8.ffn.net.2.weight"), TilereelError, "lists no tensor");
});

/** Two shards and their index; `change` may alter the weight map. */
async function writeShards(folder: string, change: (map: Record<string, unknown>) => void = () => {}) {
  const one = { dtype: "F32" as const, shape: [1], data: Float32Array.of(1) };
  await writeSafetensors(`${folder}/model-1.safetensors`, { a: one });
  await writeSafetensors(`${folder}/model-2.safetensors`, { b: one });
  const weight_map: Record<string, unknown> = { a: "model-1.safetensors", b: "model-2.safetensors" };
  change(weight_map);
  await Deno.writeTextFile(`${folder}/model.safetensors.index.json`, JSON.stringify({ weight_map }));
}

Deno.test("a missing shard is named", () =>
  inFolder(async (folder) => {
    await writeShards(folder);
    await Deno.remove(`${folder}/model-2.safetensors`);
    await assertRejects(() => openCheckpoint(folder, "model"), TilereelError, "model-2.safetensors is missing");
  }));

Deno.test("a truncated shard is named", () =>
  inFolder(async (folder) => {
    await writeShards(folder);
    await Deno.truncate(`${folder}/model-2.safetensors`, 30);
    await assertRejects(() => openCheckpoint(folder, "model"), TilereelError, "model-2.safetensors is truncated");
  }));

Deno.test("an index that does not fit its shards is refused", () =>
  inFolder(async (folder) => {
    await writeShards(folder, (map) => map.c = "model-1.safetensors");
    await assertRejects(() => openCheckpoint(folder, "model"), TilereelError, 'holds the tensor "c", but it does not');
    for (const shard of ["../model-1.safetensors", "/etc/passwd", "a\\b", "..", "", 3, null]) {
      await writeShards(folder, (map) => map.b = shard);
      await assertRejects(() => openCheckpoint(folder, "model"), TilereelError, 'places the tensor "b" in');
    }
    for (const index of ["{}", '{"weight_map": []}', "[]", "{"]) {
      await Deno.writeTextFile(`${folder}/model.safetensors.index.json`, index);
      await assertRejects(() => openCheckpoint(folder, "model"), TilereelError, "model.safetensors.index.json");
    }
  }));

Deno.test("variants are taken if there is nothing else", () =>
  inFolder(async (folder) => {
    const tensor = (value: number) => ({ a: { dtype: "F32" as const, shape: [1], data: Float32Array.of(value) } });
    const value = async () => {
      using source = await openCheckpoint(folder, "model");
      return (await readFloat32(source, "a"))[0];
    };
    await writeSafetensors(`${folder}/model.fp16.safetensors`, tensor(16));
    assertEquals(await value(), 16);
    await writeSafetensors(`${folder}/model.safetensors`, tensor(32));
    assertEquals(await value(), 32);
  }));

Deno.test("weights of another format are named", () =>
  inFolder(async (folder) => {
    await assertRejects(() => openCheckpoint(folder, "model"), TilereelError, "holds no weights");
    await Deno.writeTextFile(`${folder}/model.bin`, "");
    await assertRejects(() => openCheckpoint(folder, "model"), TilereelError, "only model.bin; convert it");
    await assertRejects(() => openCheckpoint(`${folder}/x`, "model"), TilereelError, "does not exist");
  }));
