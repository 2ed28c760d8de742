/** Shards of a batch as processes of their own, which are killed, repeated and run beside each other. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { assertRefused, inTempDir, listFiles, QUICK, start, tilereel } from "../../process.ts";

const PROMPTS = [
  ...["a red circle", "a blue ring", '{"prompt": "a green cross", "count": 3, "seed": 5}', "a red circle"],
  ...['{"prompt": "a square", "out": "deep/square.gif"}', '{"prompt": "a ring", "size": "64x64"}'],
];
const LINE = ["generate", "--prompts", "p.txt", ...QUICK];

/** The clips of a folder, by their names. */
async function clipsIn(folder: string): Promise<Record<string, Uint8Array>> {
  const names = listFiles(folder).filter((name) => /\.(mp4|gif)$/.test(name));
  return Object.fromEntries(
    await Promise.all(names.map(async (n) => [n, await Deno.readFile(join(folder, n))] as const)),
  );
}

/** What `status` says of a folder's only work. */
async function statusOf(dir: string, folder: string) {
  const { code, out, err } = await tilereel(["status", folder, "--json"], { cwd: dir });
  assertEquals([code, err], [0, ""]);
  const { works: [work], ...rest } = JSON.parse(out);
  assertEquals(rest, { folder });
  return work;
}

Deno.test({
  name: "shards in any order, repeated, killed and side by side make the files of one process",
  ignore: Deno.build.os === "windows",
  fn: () =>
    inTempDir(async (dir) => {
      await Deno.writeTextFile(join(dir, "p.txt"), PROMPTS.join("\n"));
      const whole = await tilereel([...LINE, "--out", "whole"], { cwd: dir });
      assertEquals(whole.code, 0, whole.err);
      const shard = (index: number) => start(dir, "cli/main.ts", [...LINE, "--out", "parts", "--shard", `${index}/3`]);
      const states = (work: { shards: { status: string }[] }) => work.shards.map(({ status }) => status);

      // The last one first. It is killed while it makes its second clip.
      const killed = shard(3), first = "parts/0003-a-green-cross-5.mp4";
      await killed.until(() => Deno.stat(join(dir, first)).then(() => true, () => false));
      killed.process.kill("SIGKILL");
      await killed.output;
      const broken = await statusOf(dir, "parts");
      assertEquals(states(broken), ["waiting", "waiting", "stopped"]);
      assertEquals([broken.total, broken.failed, broken.shards[2].total], [8, 0, 2]);
      const text = await tilereel(["status", "parts"], { cwd: dir });
      assertStringIncludes(text.out, "of 8 clips, by 3 shards of\n  tilereel generate --prompts p.txt");
      assertStringIncludes(text.out, "keeps what is there:\n  tilereel generate --prompts p.txt");
      assertStringIncludes(text.out, " --out parts --shard 3/3\n");

      const both = await Promise.all([shard(2).output, shard(1).output]);
      assertEquals(both.map(({ code }) => code), [0, 0], both[0].err);
      const again = await shard(1).output;
      assertStringIncludes(again.out, "Shard 1 of 3: 3 of 8 clips.\nShard 1 of 3: 0 clips rendered, 3 already made");
      assertEquals(states(await statusOf(dir, "parts")), ["done", "done", "stopped"]);
      const last = await shard(3).output;
      assertEquals(last.code, 0, last.err);

      assertEquals(await clipsIn(join(dir, "parts")), await clipsIn(join(dir, "whole")));
      assertEquals(listFiles(join(dir, "whole")).filter((name) => name.includes(".tilereel")), []);
      const done = await statusOf(dir, "parts");
      assertEquals([states(done), done.done, done.total], [["done", "done", "done"], 8, 8]);
      // Nothing but the clips and a log of each shard, and nothing unfinished.
      assertEquals(listFiles(join(dir, "parts")).length, 8 + 2 + 3);
      // What is removed is to be made again.
      await Deno.remove(join(dir, first));
      const removed = await statusOf(dir, "parts");
      assertEquals([states(removed), removed.done], [["done", "done", "stopped"], 7]);
    }),
});

Deno.test("what one process makes after a shard is no longer waited for", () =>
  inTempDir(async (dir) => {
    await Deno.writeTextFile(join(dir, "p.txt"), "a\nb\nc\n");
    const run = async (...args: string[]) => {
      const { code, err } = await tilereel([...LINE, "--out", "o", ...args], { cwd: dir });
      assertEquals(code, 0, err);
      const { done, total, shards } = await statusOf(dir, "o");
      return [done, total, ...shards.map(({ status }: { status: string }) => status)];
    };
    assertEquals(await run("--shard", "2/3"), [1, 3, "waiting", "done", "waiting"]);
    assertEquals(await run(), [3, 3, "done"]);
    const { out } = await tilereel(["status", "o"], { cwd: dir });
    assertStringIncludes(out, "3 of 3 clips, by 1 shard of\n");
  }));

Deno.test("a shard of a cluster's task, clips that fail, and more shards than clips", () =>
  inTempDir(async (dir) => {
    await Deno.writeTextFile(join(dir, "p.txt"), 'a\n{"prompt": "b", "guidance": 1e300}\nc\n');
    const task = (id: number, ...args: string[]) =>
      tilereel([...LINE, "--out", "o", ...args], {
        cwd: dir,
        env: {
          ...{ SLURM_ARRAY_TASK_ID: `${id}`, SLURM_ARRAY_TASK_COUNT: "5" },
          ...{ SLURM_ARRAY_TASK_MIN: "0", SLURM_ARRAY_TASK_MAX: "4" },
        },
      });
    const failing = await task(1);
    assertEquals(failing.code, 1);
    assertStringIncludes(
      failing.err,
      "Note: this is task 2 of 5 of a Slurm array, so it makes shard 2 of 5, 1 of 3 clips; --shard 1/1 makes all.",
    );
    const empty = await task(4);
    assertEquals([empty.code, empty.out.split("\n")[0]], [0, "Shard 5 of 5: 0 clips rendered"]);
    const { failed, shards } = await statusOf(dir, "o");
    assertEquals(failed, 1);
    assertEquals(shards.map(({ status }: { status: string }) => status), [
      ...["waiting", "failed", "waiting", "waiting", "done"],
    ]);
    assertStringIncludes(shards[1].failed[0].why, "not finite");
    const { out } = await tilereel(["status", "o"], { cwd: dir });
    assert(/0 of 3 clips, 1 failed, by 5 shards of\n/.test(out), out);
    const all = await task(0, "--shard", "1/1");
    assertStringIncludes(all.out, "2 clips rendered, 1 failed:");

    const refused = async (message: string, ...args: string[]) =>
      assertRefused(await tilereel(["generate", ...args], { cwd: dir }), message);
    await refused("--shard is a part of the clips of --prompts FILE, which is missing: add it", "a", "--shard", "1/2");
    await refused(
      "--preview names a file that all shards would write",
      ...LINE.slice(1),
      "--shard",
      "1/2",
      "--preview",
      "a.gif",
    );
    assertRefused(await tilereel(["status"], { cwd: dir }), "there is no folder: name one");
    assertRefused(await tilereel(["status", "p.txt"], { cwd: dir }), "p.txt is not a folder");
    assertRefused(await tilereel(["status", "."], { cwd: dir }), "so there is nothing to tell");
  }));
