import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { assertRefused, inTempDir, listFiles, QUICK, tilereel } from "../../process.ts";

/** Two of them would have folders of the same name, and two share one. */
const PROMPTS = ["a red circle", "A red circle!", "a ring", '{"prompt": "a red circle", "fps": 8}'];
const LINE = ["compare", "--prompts", "p.txt", "-s", "full", "-s", "sliding tile=1x1x1 window=1x1x1", ...QUICK];

Deno.test("shards of a comparison make the clips of one process, and the last writes the page", () =>
  inTempDir(async (dir) => {
    await Deno.writeTextFile(join(dir, "p.txt"), PROMPTS.join("\n"));
    const run = async (...args: string[]) => {
      const { code, out, err } = await tilereel([...LINE, ...args], { cwd: dir });
      assertEquals(code, 0, err);
      return out;
    };
    await run("--out", "whole", "-q");
    const first = await run("--out", "parts", "--shard", "2/2");
    assertStringIncludes(first, "Shard 2 of 2: 2 of 8 clips.\n");
    assertStringIncludes(
      first,
      "Shard 2 of 2: 2 clips are there. The page is written by the shard that finds those of",
    );
    assertStringIncludes(first, "all prompts, and 3 of 4 prompts still lack some.\n");
    assertEquals(listFiles(join(dir, "parts")).filter((name) => /report|table/.test(name)), []);
    const status = JSON.parse((await tilereel(["status", "parts", "--json"], { cwd: dir })).out);
    assertEquals(status.works[0].shards.map(({ status }: { status: string }) => status), ["waiting", "done"]);
    assertEquals([status.works[0].done, status.works[0].total], [2, 8]);
    const last = await run("--out", "parts", "--shard=1/2");
    assertStringIncludes(last, "parts/report.html: the page\n");

    const clips = (name: string) => /\.(mp4|png|gz)$/.test(name);
    const names = listFiles(join(dir, "whole")).filter((name) => !name.startsWith(".tilereel"));
    assertEquals(listFiles(join(dir, "parts")).filter((name) => !name.startsWith(".tilereel")), names);
    assert(names.includes("a-red-circle-0-2/full.mp4"), names.join());
    for (const name of names.filter(clips)) {
      const [one, other] = await Promise.all(["whole", "parts"].map((at) => Deno.readFile(join(dir, at, name))));
      assertEquals(one, other, name);
    }
    const tables = await Promise.all(["whole", "parts"].map(async (at) => {
      const { settings, prompts, commandLine } = JSON.parse(await Deno.readTextFile(join(dir, at, "table.json")));
      assertEquals(commandLine.includes("--shard"), false);
      const measured = settings.map(({ psnr, ssim, density }: Record<string, number>) => [psnr, ssim, density]);
      return [measured, prompts.map(({ prompt, sideBySide }: Record<string, string>) => [prompt, sideBySide])];
    }));
    assertEquals(tables[0], tables[1]);

    assertRefused(await tilereel(["compare", "a", "--shard", "1/2"]), "--shard is a part of --prompts FILE, which is");
  }));
