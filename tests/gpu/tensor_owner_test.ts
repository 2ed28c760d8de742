import { assertEquals, assertThrows } from "@std/assert";
import { dryGpu } from "../../gpu/device/dry.ts";
import { TensorOwner } from "../../gpu/tensor_owner.ts";

Deno.test("an owner's tensors outlive their scopes, and are freed with it", () => {
  const gpu = dryGpu(), owner = new TensorOwner(gpu);
  gpu.scope(() => {
    gpu.scope(() => owner.adopt([gpu.tensor([64]), gpu.tensor([64])]));
    owner.adopt(gpu.tensor([64]));
    gpu.tensor([64]);
  });
  assertEquals(gpu.memory.used, 3 * 256);
  owner[Symbol.dispose]();
  assertEquals(gpu.memory.used, 0);
  owner[Symbol.dispose](); // It owns nothing any more.
});

Deno.test("tensors can be freed early, given up and moved", () => {
  const gpu = dryGpu(), owner = new TensorOwner(gpu);
  const [a, b, c] = owner.adopt([gpu.tensor([64]), gpu.tensor([64]), gpu.tensor([64])]);
  owner.free(a!);
  assertEquals(gpu.memory.used, 2 * 256);
  assertEquals(owner.disown(b!), b);
  for (const foreign of [a!, b!]) {
    assertThrows(() => owner.free(foreign), Error, "a tensor of [64] is not owned here");
  }
  const moved = owner.move();
  owner[Symbol.dispose]();
  assertEquals(gpu.memory.used, 2 * 256);
  moved.free(c!);
  gpu.release(b!);
  assertEquals(gpu.memory.used, 0);
});

Deno.test("views of one buffer are one tensor", () => {
  const gpu = dryGpu();
  {
    using owner = new TensorOwner(gpu);
    const rows = gpu.tensor([2, 64]);
    owner.adopt([rows.rows(0, 1), rows.rows(1, 1)]);
    owner.adopt(rows);
  }
  assertEquals(gpu.memory.used, 0);
});

Deno.test("what was adopted is freed when the work after it fails", () => {
  const gpu = dryGpu({ memoryLimit: 512 });
  assertThrows(() => {
    using building = new TensorOwner(gpu);
    building.adopt(gpu.tensor([64]));
    building.adopt(gpu.tensor([128]));
    building.move();
  });
  assertEquals(gpu.memory.used, 0);
});
