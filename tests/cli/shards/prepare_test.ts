import { assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { assertRefused, inTempDir, listFiles, tilereel } from "../../process.ts";

const CLIPS = ["--size", "32x32", "--frames", "5", "--sampling-steps", "1", "--guidance", "1"];
const LINE = ["train", "router", "--prompts", "p.txt", ...CLIPS];

Deno.test("shards prepare the latents of a training, which then makes none", () =>
  inTempDir(async (dir) => {
    await Deno.writeTextFile(join(dir, "p.txt"), "a red circle\na blue ring\na red circle\na square\na cross\n");
    const run = async (...args: string[]) => {
      const { code, out, err } = await tilereel([...LINE, ...args], { cwd: dir });
      assertEquals(code, 0, err);
      return out;
    };
    assertStringIncludes(
      await run("--prepare", "--cache", "whole"),
      "5 latents are in whole, of which 5 were made now.\nTrain with:\n  tilereel train router --prompts p.txt",
    );
    const second = JSON.parse(await run("--prepare", "--cache", "parts", "--shard", "2/2", "--json"));
    assertEquals([second.shard, second.latents, second.made], [[2, 2], 2, 2]);
    assertStringIncludes(
      await run("--prepare", "--cache", "parts", "--shard", "1/2"),
      "Shard 1 of 2: 3 of 5 latents.\n",
    );
    const again = await run("--prepare", "--cache", "parts", "--shard", "2/2");
    assertStringIncludes(again, "Shard 2 of 2: 2 latents are in parts, of which 0 were made now.");

    const names = listFiles(join(dir, "whole"));
    assertEquals(names.length, 5);
    assertEquals(listFiles(join(dir, "parts")).filter((name) => !name.startsWith(".tilereel")), names);
    for (const name of names) {
      const [one, other] = await Promise.all(["whole", "parts"].map((at) => Deno.readFile(join(dir, at, name))));
      assertEquals(one, other, name);
    }
    const { works: [{ shards, ...work }] } = JSON.parse(
      (await tilereel(["status", "parts", "--json"], { cwd: dir })).out,
    );
    assertEquals([work.unit, work.done, work.total], ["latent", 5, 5]);
    assertEquals(shards.map(({ status }: { status: string }) => status), ["done", "done"]);

    const refused = async (message: string, ...args: string[]) =>
      assertRefused(await tilereel([...LINE, ...args], { cwd: dir }), message);
    await refused("a training is one piece of work: add --prepare", "--shard", "1/2");
    await refused("--resume continues a training: leave one of them out", "--prepare", "--resume");
    // The training finds them: nothing is added to the folder.
    const trained = ["--tile", "1x1x1", "--window", "1x1x1", "--bucket", "1x2x2", "--steps", "1", "--accumulate", "1"];
    await run(...trained, "--cache", "parts", "--out", "router", "-q");
    assertEquals(listFiles(join(dir, "parts")).filter((name) => !name.startsWith(".tilereel")), names);
    const { training } = JSON.parse((await tilereel(["status", "router", "--json"], { cwd: dir })).out);
    const { status, step, steps, checkpoint, result } = training;
    assertEquals([status, step, steps, checkpoint, result], ["done", 1, 1, 1, "router.safetensors"]);
    const { out } = await tilereel(["status", "router"], { cwd: dir });
    assertStringIncludes(out, "A training, done: step 1 of 1, ");
    assertStringIncludes(out, "Its result: router.safetensors.\n");
  }));
