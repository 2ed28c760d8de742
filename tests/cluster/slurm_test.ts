import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { inTempDir, listFiles, program, QUICK, ROOT, tilereel } from "../process.ts";
import { hasSlurm, Slurm } from "./slurm.ts";

/** Twelve clips; each takes long enough that a kill comes before the next. */
const PROMPTS = ["circle", "square", "ring"].flatMap((shape) =>
  ["red", "blue", "green", "yellow"].map((colour) => `a ${colour} ${shape}`)
);
const CLIPS = ["--prompts", "p.txt", ...QUICK, "--steps", "4"];

Deno.test({
  name: "an array of 4 in Slurm makes the 12 clips of one process, though tasks are killed and requeued",
  ignore: !hasSlurm(),
  fn: () =>
    inTempDir(async (dir) => {
      await Deno.writeTextFile(join(dir, "p.txt"), PROMPTS.join("\n"));
      await Deno.mkdir(join(dir, "bin"));
      const words = [Deno.execPath(), ...program("cli/main.ts", [])].map((word) => `'${word}'`).join(" ");
      await Deno.writeTextFile(join(dir, "bin/tilereel"), `#!/bin/sh\nexec ${words} "$@"\n`, { mode: 0o755 });
      const whole = await tilereel(["generate", ...CLIPS, "--out", "whole"], { cwd: dir });
      assertEquals(whole.code, 0, whole.err);

      await using slurm = await Slurm.start();
      const script = join(ROOT, "tools/cluster/array.sbatch");
      // There is no GPU to ask for.
      const job = await slurm.submit(dir, join(dir, "bin"), ["--gres=none", script, ...CLIPS, "--out", "parts"]);

      const status = async () => JSON.parse((await tilereel(["status", "parts", "--json"], { cwd: dir })).out).works[0];
      const afterFirstClip = (index: number) => pidAfterFirstClip(join(dir, "parts"), index);
      await Promise.all([
        // As when memory runs out on the node.
        afterFirstClip(2).then((pid) => Deno.kill(pid, "SIGKILL")),
        // As when a more important job comes.
        afterFirstClip(3).then(() => slurm.run("scontrol", "requeue", `${job}_3`)),
      ]);
      await until(async () => (await slurm.tasks(job))["2"] === "FAILED");
      const { status: found, done, total } = (await status()).shards[1];
      assert(found === "stopped" && done >= 1 && done < total, `${found}: ${done} of ${total}`);
      await slurm.run("scontrol", "requeue", `${job}_2`);
      await until(async () => Object.keys(await slurm.tasks(job)).length === 0);

      const { shards, ...work } = await status();
      assertEquals([work.done, work.total, work.failed], [12, 12, 0]);
      assertEquals(shards.map(({ status }: { status: string }) => status), Array(4).fill("done"));
      const names = listFiles(join(dir, "whole"));
      assertEquals(listFiles(join(dir, "parts")).filter((name) => !name.startsWith(".tilereel")), names);
      for (const name of names) {
        const [one, other] = await Promise.all(["whole", "parts"].map((at) => Deno.readFile(join(dir, at, name))));
        assertEquals(one, other, name);
      }
      const log = await Deno.readTextFile(join(dir, `tilereel-${job}-2.log`));
      assertStringIncludes(log, "this is task 2 of 4 of a Slurm array, so it makes shard 2 of 4, 3 of 12 clips");
      assertStringIncludes(log, "already made and skipped");
    }),
});

/** The process of a shard that has made one clip and is making the next. */
async function pidAfterFirstClip(folder: string, index: number): Promise<number> {
  let pid: number | undefined;
  await until(async () => {
    const [name] = await Array.fromAsync(Deno.readDir(`${folder}/.tilereel`), ({ name }) => name).then(
      (names) => names.filter((name) => !name.startsWith(".") && name.endsWith(`-${index}-of-4.json`)),
      () => [],
    );
    if (name === undefined) return false;
    const log = JSON.parse(await Deno.readTextFile(`${folder}/.tilereel/${name}`));
    assert(log.ended === undefined, "the shard was too quick to be killed");
    pid = log.made === 1 ? log.pid : undefined;
    return pid !== undefined;
  });
  return pid!;
}

async function until(happened: () => Promise<boolean>): Promise<void> {
  while (!await happened()) await new Promise((resolve) => setTimeout(resolve, 20));
}
