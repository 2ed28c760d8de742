/** A device that refused an allocation works again, with what was on it before. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { OutOfMemoryError, TilereelError } from "../../gpu/common/errors.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { combine } from "../../gpu/ops/combine.ts";
import { testOnGpu } from "../gpu.ts";
import { refuseTensors } from "../refuse_memory.ts";
import { testPipeline } from "../test_pipeline.ts";

const REFUSED = "more than there is";

const double = (gpu: Gpu, numbers: number) =>
  gpu.waitingScope(async () => {
    const x = gpu.upload(new Float32Array(numbers).fill(1), [numbers]);
    return [...new Set(await gpu.read(combine(gpu, [[2, x]])))];
  });

/** Work that does not get the memory that it asks for. */
const tooMuch = (gpu: Gpu) =>
  gpu.waitingScope(async () => {
    const x = gpu.tensor([2 ** 16], "f32", REFUSED);
    await gpu.read(combine(gpu, [[1, x], [1, x]]));
  });

function testRecovery(name: string, test: (gpu: Gpu) => Promise<void>): void {
  testOnGpu(name, async (gpu) => {
    gpu.poison = false;
    refuseTensors(gpu.device, (name) => name === REFUSED);
    await test(gpu);
  });
}

testRecovery("after a refused allocation, work goes on with the tensors that were there before", async (gpu) => {
  const weight = gpu.upload(new Float32Array([1, 2, 3]), [3]);
  assertEquals(await double(gpu, 8), [2]);
  const { used } = gpu.memory;
  for (let times = 0; times < 2; times++) {
    await assertRejects(() => tooMuch(gpu), TilereelError, "too little memory: the GPU has no 256 KiB for more than");
    assertEquals(gpu.usable, false);
    await assertRejects(() => double(gpu, 8), TilereelError, "too little memory");
    assert(await gpu.recover());
    assert(gpu.usable);
    assertEquals(gpu.memory.used, used);
    assertEquals(await double(gpu, 8), [2]);
    assertEquals([...await gpu.read(weight)], [1, 2, 3]);
  }
});

testRecovery("a device does not recover while a refused tensor is in use", async (gpu) => {
  const kept = gpu.tensor([2 ** 16], "f32", REFUSED);
  await assertRejects(() => gpu.finish(), TilereelError, "too little memory");
  assertEquals([await gpu.recover(), gpu.usable], [false, false]);
  gpu.release(kept);
  assertEquals([await gpu.recover(), gpu.usable], [true, true]);
  assertEquals(await double(gpu, 8), [2]);
});

testRecovery("a refused allocation is the cause of what its buffer made fail before it was reported", async (gpu) => {
  const other = new Error("WebGPU: the buffer was used while destroyed");
  assertEquals(await gpu.causeOf(other), other);
  const kept = gpu.tensor([2 ** 16], "f32", REFUSED);
  await assertRejects(() => gpu.finish(), OutOfMemoryError);
  assert(await gpu.causeOf(other) instanceof OutOfMemoryError);
  gpu.release(kept);
  assert(await gpu.recover());
  assertEquals(await gpu.causeOf(other), other);
});

testRecovery("a device that is well needs no recovery, one that is lost or closed has none", async (gpu) => {
  assert(await gpu.recover());
  gpu.device.destroy();
  await assertRejects(() => gpu.finish(), TilereelError, "the GPU was lost while working");
  assertEquals(await gpu.recover(), false);
  gpu.close();
  assertEquals(await gpu.recover(), false);
});

testPipeline(
  "whatever is refused, a clip goes on with less memory, or is made by the next attempt",
  async (pipeline, gpu) => {
    let made = 0, refused = Infinity;
    refuseTensors(gpu.device, () => made++ === refused);
    const clip = { prompt: "a red circle", width: 32, height: 32, frames: 5, steps: 2, seed: 3 };
    const { data } = await pipeline.generate(clip);
    const { used } = gpu.memory;
    gpu.trim();
    made = 0;
    await pipeline.generate(clip);
    const total = made, went = { on: 0, not: 0 };
    for (refused = 0; refused < total; refused += 25) {
      gpu.trim();
      made = 0;
      try {
        assertEquals((await pipeline.generate(clip)).data, data);
        went.on++;
      } catch (error) {
        assert(error instanceof OutOfMemoryError && error.message.startsWith("too little memory: the GPU has no"));
        went.not++;
      }
      assert(await gpu.recover(), `tensor ${refused}`);
      // Where decoding took too much, the blocks are loaded again by the next clip.
      assert(gpu.memory.used <= used);
    }
    assert(went.on > 0 && went.not > 0, JSON.stringify(went));
    refused = Infinity;
    assertEquals((await pipeline.generate(clip)).data, data);
    assertEquals(gpu.memory.used, used);
  },
  { weights: "resident" },
);
