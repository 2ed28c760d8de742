import { assertEquals } from "@std/assert";
import { dirname, join, normalize } from "node:path";
import { ROOT } from "./process.ts";

/** Folders and which folders their files may import from, beside their own. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  "gpu": [],
  "model": ["gpu"],
  "mod.ts": ["model", "gpu"],
  "tools/program": ["model", "gpu"],
  "tools/studio": ["cli", "tools", "tools/program", "model", "gpu"],
  "tools/soak": ["cli", "tools/program", "model", "gpu"],
  "tools/fuzz": ["cli", "tools/program", "model", "gpu"],
  "tools": ["tools/program", "model", "gpu"],
  "bench": ["tools/program", "model", "gpu"],
  "cli": ["tools/program", "model", "gpu"],
};

/** Static and dynamic imports of other files of the project, and modules that are only named for their types. */
const IMPORT = /\b(?:from|import)\s*\(?\s*"(\.{1,2}\/[^"]+\.[tj]s)"/g;

Deno.test("imports go one way: cli and bench, tools/program, model, gpu", async () => {
  const wrong: string[] = [];
  let count = 0;
  for (const file of await sourceFiles()) {
    const text = await Deno.readTextFile(join(ROOT, file)), layer = layerOf(file)!;
    for (const [, specifier] of text.matchAll(IMPORT)) {
      count++;
      const target = normalize(join(dirname(file), specifier!)), other = layerOf(target);
      if (other !== layer && (other === undefined || !MAY_IMPORT[layer]!.includes(other))) {
        wrong.push(`${file} imports ${target}`);
      }
    }
  }
  assertEquals(wrong, []);
  assertEquals(count > 1000, true, "the imports are found");
});

/** The longest name in the table that a path begins with. */
function layerOf(path: string): string | undefined {
  return Object.keys(MAY_IMPORT).filter((layer) => path === layer || path.startsWith(`${layer}/`))
    .sort((a, b) => b.length - a.length)[0];
}

async function sourceFiles(): Promise<string[]> {
  const files = ["mod.ts"], folders = ["gpu", "model", "tools", "bench", "cli"];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for await (const { name, isDirectory } of Deno.readDir(join(ROOT, folder))) {
      if (isDirectory) folders.push(`${folder}/${name}`);
      else if (/\.[tj]s$/.test(name)) files.push(`${folder}/${name}`);
    }
  }
  return files;
}
