import { assertEquals, assertRejects } from "@std/assert";
import { randomSource } from "../../../bench/full_size/made_source.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { type Container, openContainer } from "../../../model/checkpoint/container.ts";
import { SAFETENSORS } from "../../../model/checkpoint/safetensors.ts";
import { memoryFile } from "../../../model/files/memory.ts";

Deno.test("a container opens the files that are recognised as its own, whatever their names", async () => {
  const file = memoryFile("model.bin", new TextEncoder().encode("GGUF\x03\0\0\0"));
  const sizes: number[] = [];
  const toy: Container = {
    kinds: ["gguf"],
    ending: "gguf",
    open: (file) => (sizes.push(file.size), Promise.resolve(randomSource([{ name: "a", shape: [2] }]))),
  };
  using source = await openContainer(file, "a file of weights", [SAFETENSORS, toy]);
  assertEquals([source.names(), sizes], [["a"], [8]]);
  await assertRejects(
    () => openContainer(file, "a file of weights", [SAFETENSORS]),
    TilereelError,
    "model.bin is a GGUF file, but a file of weights was expected; name another file",
  );
});
