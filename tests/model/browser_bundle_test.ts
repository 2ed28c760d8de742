import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { execute, inTempDir, MODEL, program, ROOT } from "../process.ts";

/** Bundles a module as a page would have it. */
async function bundle(dir: string, module: string): Promise<string> {
  const path = join(dir, "bundle.js");
  const args = ["bundle", "--quiet", "--platform", "browser", "--output", path, join(ROOT, module)];
  const { code, err } = await execute(Deno.execPath(), args);
  assertEquals([code, err], [0, ""]);
  return path;
}

for (const module of ["gpu/mod.ts", "model/mod.ts"]) {
  Deno.test(`${module} needs neither Deno nor Node`, () =>
    inTempDir(async (dir) => {
      const lines = (await Deno.readTextFile(await bundle(dir, module))).split("\n");
      const host = lines.filter((line) => /\bDeno\s*[.[]|["']node:/.test(line));
      assertEquals(host, []);
      assert(lines.length > 1000);
    }));
}

Deno.test("a page without Deno loads a model from memory and renders a clip", () =>
  inTempDir(async (dir) => {
    const path = await bundle(dir, "tests/model/browser_entry.ts");
    const { code, out, err } = await execute(
      Deno.execPath(),
      program("tests/model/page.js", [pathToFileURL(path).href, MODEL]),
    );
    assertEquals([code, err], [0, ""]);
    const { shades, ...clip } = JSON.parse(out);
    assertEquals(clip, { width: 32, height: 32, frames: 5, fps: 16 });
    assert(shades > 10, `${shades} shades`);
  }));
