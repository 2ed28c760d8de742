/** The npm package, as a user takes it: in an empty folder, without the checkout's config. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { extract } from "tar";
import config from "../../deno.json" with { type: "json" };
import { readMp4 } from "../h264_reader.ts";
import { execute, inTempDir, listFiles, QUICK, ROOT } from "../process.ts";

const SCRIPT = `
import { embeddedModelDir, openGpu, TilereelError, VideoPipeline, writeVideo } from "tilereel";
const gpu = await openGpu();
const pipeline = await VideoPipeline.load(embeddedModelDir(), { gpu });
const video = await pipeline.generate({
  prompt: "a red circle", width: 32, height: 32, frames: 5, steps: 1, guidance: 1,
});
await writeVideo("circle.mp4", video);
const error = await pipeline.generate({ prompt: 3 }).catch((error) => error);
console.log(error instanceof TilereelError, error.message);
pipeline.close();
gpu.close();
`;

async function succeeds(program: string, args: readonly string[], cwd: string): Promise<string> {
  const { code, out, err } = await execute(program, args, { cwd, env: { NO_COLOR: "1" } });
  assertEquals(code, 0, err);
  return out;
}

/** Runs the script in `dir`, where "tilereel" can be imported. */
async function assertRenders(dir: string): Promise<void> {
  await Deno.writeTextFile(join(dir, "script.js"), SCRIPT);
  const out = await succeeds(Deno.execPath(), ["run", "-A", "--quiet", "script.js"], dir);
  assertStringIncludes(out, "true VideoPipeline.generate: prompt is 3, but a text");
  const track = await readMp4(await Deno.readFile(join(dir, "circle.mp4")));
  assertEquals([track.width, track.height, track.frames.length], [32, 32, 5]);
}

const hasNpm = await execute("npm", ["--version"]).then(({ code }) => code === 0, () => false);

Deno.test("what deno task pack makes is imported, and run as a command, from an empty folder", async (t) => {
  await inTempDir(async (dir) => {
    const archive = join(dir, "tilereel.tgz");
    await succeeds(Deno.execPath(), ["task", "pack", "--untyped", "--out", archive], ROOT);

    await t.step("unpacked, by an import map", async () => {
      const folder = join(dir, "unpacked");
      await Deno.mkdir(folder);
      await extract({ file: archive, cwd: folder });
      const files = listFiles(join(folder, "package"));
      for (const name of ["README.md", "LICENSE", "demo/model_index.json", "licenses/entities-LICENSE"]) {
        assert(files.includes(name), name);
      }
      const manifest = JSON.parse(await Deno.readTextFile(join(folder, "package/package.json")));
      assertEquals([manifest.name, manifest.version], ["tilereel", config.version]);
      await Deno.writeTextFile(join(folder, "deno.json"), '{"imports": {"tilereel": "./package/mod.js"}}');
      await assertRenders(folder);
    });

    await t.step({
      name: "installed by npm, without the network",
      ignore: !hasNpm || Deno.build.os === "windows",
      fn: async () => {
        const folder = join(dir, "installed");
        await Deno.mkdir(folder);
        await Deno.writeTextFile(join(folder, "package.json"), "{}");
        await succeeds("npm", ["install", "--offline", "--no-audit", "--no-fund", "--cache", dir, archive], folder);
        const command = join(folder, "node_modules/.bin/tilereel");
        assertEquals(await succeeds(command, ["--version"], folder), `tilereel ${config.version}\n`);
        await succeeds(command, ["generate", "a red circle", ...QUICK, "--quiet", "--out", "x.mp4"], folder);
        const track = await readMp4(await Deno.readFile(join(folder, "x.mp4")));
        assertEquals([track.width, track.height, track.frames.length], [32, 32, 5]);
        const { code, err } = await execute(command, ["foo"], { cwd: folder });
        assertEquals([code, err.startsWith('tilereel: "foo" is not a tilereel command')], [1, true], err);
        assertEquals(
          await succeeds(Deno.execPath(), ["run", "-A", "npm:tilereel", "--version"], folder),
          `tilereel ${config.version}\n`,
        );
      },
    });
  });
});
