/** The examples of the library in README.md, docs/library.md, docs/split_guidance.md and mod.ts, run as they stand there. */
import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { execute, inTempDir, listFiles, ROOT } from "../process.ts";

/** The blocks of TypeScript in a file of Markdown, or in a comment. */
async function examplesIn(name: string): Promise<string[]> {
  const text = (await Deno.readTextFile(join(ROOT, name))).replaceAll(/^ \* ?/gm, "");
  return [...text.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, code]) => code!);
}

/** With the checkout in the place of the package and, where an example says no size, a clip that is made in a second. */
function runnable(code: string): string {
  return code
    .replaceAll(
      /from "(\.\/mod\.ts|tilereel)"/g,
      `from ${JSON.stringify(new URL("../../mod.ts", import.meta.url).href)}`,
    )
    .replaceAll(
      ".generate({",
      ".generate({ ...({ width: 32, height: 32, frames: 5, steps: 2, guidance: 1 } as object),",
    );
}

Deno.test("the library's examples run", async () => {
  const files = ["mod.ts", "README.md", "docs/library.md", "docs/split_guidance.md"];
  const examples = (await Promise.all(files.map(examplesIn))).flat();
  assertEquals(examples.length, 9);
  await inTempDir(async (dir) => {
    for (const [i, code] of examples.entries()) {
      await Deno.writeTextFile(join(dir, `${i}.ts`), runnable(code));
    }
    // One process: each example waits for the one before.
    await Deno.writeTextFile(join(dir, "all.ts"), examples.map((_, i) => `await import("./${i}.ts");`).join("\n"));
    const { code, err } = await execute(
      Deno.execPath(),
      ["run", "-A", "--no-check", "--quiet", "--config", join(ROOT, "deno.json"), "all.ts"],
      { cwd: dir },
    );
    assertEquals(code, 0, err);
    assertEquals(err, "");
    const clips = ["both.gif", "circle.mp4", "split.gif", "trained.gif", "veda.gif", "vorta.gif"];
    assertEquals(listFiles(dir).filter((name) => /mp4|gif/.test(name)), clips);
    for (const name of clips) {
      const start = new TextDecoder().decode((await Deno.readFile(join(dir, name))).subarray(0, 8));
      assert(name.endsWith("gif") ? start.startsWith("GIF89a") : start.endsWith("ftyp"), name);
    }
  });
});
