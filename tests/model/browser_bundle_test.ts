import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { openModelFolder } from "../../model/checkpoint/model_folder.ts";
import { modelIdentity } from "../../model/identity/model_identity.ts";
import { overall } from "../../model/progress.ts";
import type { FileFormat } from "../../model/video/encode_video.ts";
import { readClip } from "../../model/video/read/read_clip.ts";
import { readyMethods } from "../../tools/program/clip/method_options.ts";
import { bundle } from "../../tools/program/bundle.ts";
import type { Answer, Clip, Form, Request } from "../../tools/web/messages.ts";
import { inTempDir, MODEL, ROOT } from "../process.ts";
import { filesIn } from "./files/files_in.ts";

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

Deno.test("a page's worker without Deno renders clips of a dropped model, and one can be cancelled", () =>
  inTempDir(async (dir) => {
    const bundle = pathToFileURL(await bundled(dir, "tools/web/worker.ts")), start = join(dir, "start.js");
    const withoutDeno =
      `delete globalThis.Deno; delete globalThis.process; await import("${bundle}"); postMessage({});`;
    await Deno.writeTextFile(start, withoutDeno);
    const worker = new Worker(pathToFileURL(start), { type: "module" });
    const answered = (cancelAt = Infinity) => {
      const { promise, resolve } = Promise.withResolvers<{ end: Answer; progress: readonly number[] }>();
      const progress: number[] = [];
      worker.onmessage = ({ data }: MessageEvent<Answer>) => {
        if ("adapter" in data || "note" in data || "preview" in data) return;
        if (!("progress" in data)) return resolve({ end: data, progress });
        progress.push(data.progress);
        if (data.progress >= cancelAt) send("cancel");
      };
      return promise;
    };
    const send = (request: Request) => worker.postMessage(request);
    const make = (form: Form, cancelAt?: number) => {
      send({ form: { prompt: "a red circle", seed: 1, size: "32x32", frames: 5, steps: 2, ...form } });
      return answered(cancelAt);
    };
    const encoded = async (encode: Pick<Clip, "video" | "record">, format: FileFormat) => {
      send({ encode, format });
      const { end } = await answered();
      assert("file" in end, JSON.stringify(end));
      return end.file;
    };
    try {
      await answered();
      const files = Object.entries(await filesIn(MODEL)).map(([name, bytes]) =>
        [name, new Blob([bytes as BlobPart])] as const
      );
      // The second takes the place of the first.
      send({ model: new Map() });
      assert("error" in (await make({})).end);
      send({ model: new Map(files), largest: { width: 64, height: 64, frames: 9 } });
      const grid = [2, 2, 2] as const, identity = await modelIdentity(await openModelFolder(MODEL));
      for (const [attention, file, format] of [["vorta", "router", "mp4"], ["veda", "tiles", "gif"]] as const) {
        const { end, progress } = await make({ attention });
        assert("clip" in end, JSON.stringify(end));
        const { record } = end.clip, method = (await readyMethods({ attention }, MODEL)).record(grid);
        const expected = { ...method, ...identity, model: "dropped", [file]: `dropped/${file}.safetensors` };
        assertEquals({ ...record, ...expected, prompt: "a red circle", seed: 1, steps: 2, width: 32 }, record);
        assertEquals(progress.at(-1), overall({ stage: "decode", done: 1, total: 1 }));
        const path = join(dir, `clip.${format}`), shape = { width: 32, height: 32, frames: 5, fps: 16 };
        await Deno.writeFile(path, await encoded(end.clip, format));
        const shades = new Set((await readClip(path, shape)).data).size;
        assert(shades > 10, `${shades} shades`);
      }
      const { end: made } = await make({});
      assert("clip" in made && (await encoded(made.clip, "png")).length > 100);
      const { end, progress } = await make({ steps: 50 }, 0.2);
      assertEquals(end, { error: "cancelled" });
      assert(progress.length < 30, `${progress}`);
      assertEquals((await make({ size: "large" })).progress, []);
    } finally {
      worker.terminate();
    }
  }));
