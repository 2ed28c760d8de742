import { assert, assertEquals, assertRejects } from "@std/assert";
import { TilereelError } from "../../../gpu/common/errors.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { type Dtype, openSafetensors } from "../../../model/checkpoint/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import type { TensorSource } from "../../../model/checkpoint/tensor_source.ts";
import { WeightSlot } from "../../../model/weights/weight_slot.ts";
import { Weights } from "../../../model/weights/weights.ts";
import { assertClose, randn, toBf16, variants } from "../../gpu.ts";

/** Runs a test on one device, as uploads know no kernel variants. It outlives the test, so Deno must not see a leak. */
function test(name: string, run: (gpu: Gpu) => Promise<void>): void {
  const fn = async () => await run((await variants())[0]!.gpu);
  Deno.test({ name, sanitizeResources: false, sanitizeOps: false, fn });
}

/** Runs `use` on a file with these tensors. */
async function withTensors(tensors: Record<string, TensorToWrite>, use: (source: TensorSource) => Promise<void>) {
  const folder = await Deno.makeTempDir();
  try {
    await writeSafetensors(`${folder}/w.safetensors`, tensors);
    using source = await openSafetensors(`${folder}/w.safetensors`);
    await use(source);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** A tensor too large to keep in a test: its bytes are made as they are asked for. */
function virtualTensor(dtype: Dtype, shape: readonly number[], bytes: number, fill: (at: number) => number) {
  const reads: number[] = [];
  const unused = () => {
    throw new Error("the tensor was read whole");
  };
  const source: TensorSource = {
    path: "virtual",
    metadata: {},
    names: () => ["w"],
    has: (name) => name === "w",
    info: (name) => ({ name, dtype, shape, bytes, file: "virtual" }),
    read: unused,
    readRows: unused,
    readRange(_name, start, length) {
      reads.push(length);
      return Promise.resolve(Uint8Array.from({ length }, (_, i) => fill(start + i)));
    },
    close() {},
    [Symbol.dispose]() {},
  };
  return { source, reads };
}

test("weights arrive as they are stored, also an odd count of 16-bit numbers", async (gpu) => {
  const values = randn(35, 1), bf16 = toBf16(values), f16 = new Float16Array(values);
  const shape = [5, 7];
  await withTensors({
    "a.f32": { dtype: "F32", shape, data: values },
    "a.bf16": { dtype: "BF16", shape, data: bf16.packed },
    "a.f16": { dtype: "F16", shape, data: f16 },
  }, async (source) => {
    let uploaded = 0;
    const weights = new Weights(gpu, source, { onUpload: (bytes) => uploaded += bytes }).scope("a.");
    const stored = { f32: values, bf16: bf16.packed, f16 };
    const widened = { f32: values, bf16: bf16.values, f16: Float32Array.from(f16) };
    for (const format of ["f32", "bf16", "f16"] as const) {
      const { weight: matrix } = await weights.matrix(format, shape);
      assertEquals([matrix.format.name, [...matrix.shape]], [format, shape]);
      const data = stored[format], bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      assertEquals(new Uint8Array(await gpu.readBytes(matrix)).slice(0, bytes.length), bytes);
      assertEquals(await gpu.read(await weights.vector(format, shape)), widened[format]);
    }
    assertEquals(uploaded, 2 * 35 * (4 + 2 + 2));
    weights[Symbol.dispose]();
  });
});

test("what is added to matrices and vectors, resident and in slots", async (gpu) => {
  const shape = [600, 7], count = 4200, values = randn(count, 1), added = randn(count, 2), bf16 = toBf16(values);
  await withTensors({
    "a.w": { dtype: "F32", shape, data: values },
    "a.h": { dtype: "BF16", shape, data: bf16.packed },
  }, async (source) => {
    const asked: string[] = [];
    const delta = {
      rows: (start: number, rows: number) => gpu.upload(added.slice(start * 7, (start + rows) * 7), [rows, 7]),
    };
    const adjust = {
      path: "",
      held: 0,
      bytes: 0,
      names: [],
      of: (name: string) => (asked.push(name), name === "a.b" ? undefined : delta),
    };
    using weights = new Weights(gpu, source, { dtype: "stored", adjust });
    using slot = new WeightSlot(gpu);
    for (const scope of [weights.scope("a."), weights.inSlot("a.", slot)]) {
      assertEquals(await gpu.read((await scope.matrix("w", shape)).weight), values.map((v, i) => v + added[i]!));
      const sums = bf16.values.map((v, i) => v + added[i]!);
      const { weight: held } = await scope.matrix("h", shape);
      assertEquals(held.format.name, "bf16");
      const upper = new Uint16Array(await gpu.readBytes(held));
      assertClose(new Float32Array(Uint32Array.from(upper, (bits) => bits << 16).buffer), sums, 2 ** -8);
      assertEquals(await gpu.read(await scope.vector("h", shape)), sums);
    }
    assertEquals(asked.slice(0, 3), ["a.w", "a.h", "a.h"]);
    weights.settle();
  });
});

test("a large weight goes up in pieces", async (gpu) => {
  const shape = [4099, 8193], bytes = 2 * 4099 * 8193; // 64 MiB and a bit; an odd count
  const fill = (at: number) => (at * 31 + (at >> 16)) & 0x3f;
  const { source, reads } = virtualTensor("BF16", shape, bytes, fill);
  const weights = new Weights(gpu, source);
  const uploaded = new Uint8Array(await gpu.readBytes((await weights.matrix("w", shape)).weight));
  assert(reads.length > 1 && reads.every((length) => length <= 64 * 2 ** 20), `${reads}`);
  for (let at = 0; at < bytes; at++) if (uploaded[at] !== fill(at)) throw new Error(`byte ${at} differs`);
  weights[Symbol.dispose]();
  gpu.trim();
});

test("a large weight is cast in pieces", async (gpu) => {
  const shape = [4099, 2051], count = 4099 * 2051; // 32 MiB and a bit of F32; an odd count
  // What bf16 holds exactly: the lower halves are 0.
  const fill = (at: number) => at % 4 < 2 ? 0 : (at * 31 + (at >> 16)) & 0x3f;
  const { source, reads } = virtualTensor("F32", shape, 4 * count, fill);
  using weights = new Weights(gpu, source, { dtype: "bf16" });
  const held = new Uint8Array(await gpu.readBytes((await weights.matrix("w", shape)).weight));
  assert(reads.length > 1, `${reads}`);
  for (let i = 0; i < 2 * count; i++) if (held[i] !== fill(2 * i - i % 2 + 2)) throw new Error(`byte ${i} differs`);
});

test("disposing frees what was uploaded, here and in scopes", async (gpu) => {
  const tensor = { dtype: "F32", shape: [64], data: randn(64, 1) } as const;
  await withTensors({ "a": tensor, "b.a": tensor, "c.a": tensor }, async (source) => {
    const { used } = gpu.memory;
    const weights = new Weights(gpu, source);
    const b = weights.scope("b.");
    for (const part of [weights, b, weights.scope("c.")]) await part.vector("a", [64]);
    assertEquals(gpu.memory.used, used + 3 * 256);
    b[Symbol.dispose]();
    assertEquals(gpu.memory.used, used + 2 * 256);
    weights[Symbol.dispose]();
    assertEquals(gpu.memory.used, used);
    weights[Symbol.dispose]();
    b[Symbol.dispose]();
    assertEquals(gpu.memory.used, used);
  });
});

test("unfit weights are refused by name", async (gpu) => {
  const tensors: Record<string, TensorToWrite> = {
    "block.w": { dtype: "F32", shape: [2, 4], data: randn(8, 1) },
    "block.i": { dtype: "I32", shape: [2, 4], data: new Int32Array(8) },
  };
  await withTensors(tensors, async (source) => {
    const weights = new Weights(gpu, source).scope("block.");
    const loads = [weights.matrix.bind(weights), weights.vector.bind(weights)] as const;
    for (const load of loads) {
      const refused = (name: string, shape: number[], says: string) =>
        assertRejects(() => load(name, shape), TilereelError, says);
      await refused("none", [2, 4], '"block.none"');
      await refused("w", [4, 2], "[2, 4], but [4, 2]");
      await refused("i", [2, 4], "I32");
    }
  });
  const shape = [2 ** 18, 2 ** 14];
  const { source } = virtualTensor("BF16", shape, 2 * shape[0]! * shape[1]!, () => 0);
  const weights = new Weights(gpu, source);
  await assertRejects(() => weights.matrix("w", shape), TilereelError, 'the weight "w" needs one buffer of 8.00 GiB');
});
