import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { openModelFolder } from "../../model/checkpoint/model_folder.ts";
import { modelIdentity } from "../../model/identity/model_identity.ts";
import { readyMethods } from "../../tools/program/clip/method_options.ts";
import { bundle } from "../../tools/stage_program.ts";
import { execute, inTempDir, MODEL, program, ROOT } from "../process.ts";

/** Bundles a module as a page would have it. */
async function bundled(dir: string, module: string): Promise<string> {
  const path = join(dir, "bundle.js");
  await bundle("browser", "--output", path, module);
  return path;
}

/** How the bundled encoder of MP4 would load Node's modules in Node. The test of a page below encodes an MP4 without them. */
const MP4_ENCODER_IN_NODE = /^ *A\.exports = __require\("node:(path|fs|crypto)"\);$/;

const CLIP_MODULES = [...Deno.readDirSync(join(ROOT, "tools/program/clip"))].map(({ name }) =>
  `tools/program/clip/${name}`
);

/** What a page may import. Those of tools/program/clip/ are bundled as one. */
const MODULES = { "gpu/mod.ts": ["gpu/mod.ts"], "model/mod.ts": ["model/mod.ts"], "tools/program/clip/": CLIP_MODULES };

for (const [what, modules] of Object.entries(MODULES)) {
  Deno.test(`${what} needs neither Deno nor Node`, () =>
    inTempDir(async (dir) => {
      const entry = join(dir, "entry.ts");
      const all = modules.map((module, i) => `export * as m${i} from "${pathToFileURL(join(ROOT, module))}";\n`);
      await Deno.writeTextFile(entry, all.join(""));
      const lines = (await Deno.readTextFile(await bundled(dir, entry))).split("\n");
      const host = lines.filter((line) => /\bDeno\s*[.[]|["']node:/.test(line) && !MP4_ENCODER_IN_NODE.test(line));
      assertEquals(host, []);
      assert(lines.length > 1000);
    }));
}

Deno.test("a page without Deno loads a model from memory and renders a clip", () =>
  inTempDir(async (dir) => {
    const path = await bundled(dir, "tests/model/browser_entry.ts");
    const { code, out, err } = await execute(
      Deno.execPath(),
      program("tests/model/page.js", [pathToFileURL(path).href, MODEL]),
      // Vulkan's loader complains where there is none, and a page sets no environment.
      { env: { XDG_RUNTIME_DIR: dir } },
    );
    assertEquals([code, err], [0, ""]);
    const { shades, sizes, records, ...clip } = JSON.parse(out), grid = [2, 2, 2] as const;
    const identity = await modelIdentity(await openModelFolder(MODEL));
    for (const [attention, file] of [["vorta", "router"], ["veda", "tiles"]] as const) {
      const method = (await readyMethods({ attention }, MODEL)).record(grid);
      const expected = { ...method, ...identity, model: "memory", [file]: `memory/${file}.safetensors` };
      const settings = { prompt: "a red circle", seed: 1, steps: 2, width: 32 };
      assertEquals({ ...records[attention], ...expected, ...settings }, records[attention]);
    }
    assertEquals(clip, { width: 32, height: 32, frames: 5, fps: 16 });
    assert(shades > 10, `${shades} shades`);
    assert(sizes.every((size: number) => size > 100), `${sizes} bytes`);
  }));
