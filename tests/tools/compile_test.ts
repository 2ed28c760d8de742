import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import config from "../../deno.json" with { type: "json" };
import { readMp4 } from "../h264_reader.ts";
import { execute, listFiles, type Outcome, QUICK, ROOT } from "../process.ts";

/**
 * What a program needs of this environment: where programs and drivers lie, and, wherever its home is, the kernels that
 * Mesa compiled already.
 */
const SURROUNDINGS = (() => {
  const { PATH, HOME, XDG_CACHE_HOME, MESA_SHADER_CACHE_DIR, VK_DRIVER_FILES, LD_LIBRARY_PATH } = Deno.env.toObject();
  const kernels = MESA_SHADER_CACHE_DIR ?? XDG_CACHE_HOME ?? (HOME && join(HOME, ".cache"));
  const all = { PATH, VK_DRIVER_FILES, LD_LIBRARY_PATH, MESA_SHADER_CACHE_DIR: kernels };
  return Object.fromEntries(Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined));
})();

/** Runs `deno task compile` into `binary` and gives what it printed. */
async function compile(binary: string, ...options: string[]): Promise<string> {
  const { code, out, err } = await execute(Deno.execPath(), ["task", "compile", "--out", binary, ...options], {
    cwd: ROOT,
  });
  assertEquals(code, 0, err);
  return out;
}

/** Renders a clip with the binary that `start` runs in the folder `empty`, and leaves that empty again. */
async function assertRenders(start: (args: string[]) => Promise<Outcome>, empty: string): Promise<void> {
  const { code, out, err } = await start(["generate", "a red circle", ...QUICK, "--out", "x.mp4"]);
  assertEquals(code, 0, err);
  assertStringIncludes(out, "x.mp4: 32x32, 5 frames at 16 fps");
  assertEquals(listFiles(empty), ["x.mp4"]);
  const track = await readMp4(await Deno.readFile(join(empty, "x.mp4")));
  assertEquals([track.width, track.height, track.frames.length, track.seconds], [32, 32, 5, 5 / 16]);
  await Deno.remove(join(empty, "x.mp4"));
}

Deno.test({
  name: "what deno task compile makes runs alone, from an empty folder",
  ignore: Deno.build.os === "windows",
  fn: async (t) => {
    const dir = await Deno.makeTempDir();
    try {
      const [home, empty] = [join(dir, "home"), join(dir, "empty")];
      await Deno.mkdir(home);
      await Deno.mkdir(empty);

      let binary = join(dir, "tilereel");
      const compiled = await compile(binary), fallback = compiled.includes("self-extracting");
      if (fallback) assertStringIncludes(compiled, "deno compile was not used: denort");
      await t.step({
        name: "what deno compile makes renders a clip that others can read",
        ignore: fallback,
        fn: () => {
          const options = { cwd: empty, clearEnv: true, env: { ...SURROUNDINGS, HOME: home } };
          return assertRenders((args) => execute(binary, args, options), empty);
        },
      });

      // The rest is of the self-extracting executable.
      if (!fallback) {
        binary = join(dir, "self-extracting");
        assertStringIncludes(await compile(binary, "--self-extracting"), "self-extracting");
      }

      // Nothing else of this process's environment: no Deno folder, no npm cache.
      const start = (args: string[], env: Record<string, string> = { HOME: home }) =>
        execute(binary, args, { cwd: empty, clearEnv: true, env: { ...SURROUNDINGS, ...env } });
      const cache = join(home, ".cache", "tilereel");

      await t.step("--version and --help", async () => {
        assertEquals(await start(["--version"]), { code: 0, out: `tilereel ${config.version}\n`, err: "" });
        assertStringIncludes((await start(["generate", "--help"])).out, "--flow-shift");
      });

      await t.step("it is unpacked once, under one name", async () => {
        const before = [...Deno.readDirSync(cache)].map(({ name }) => name);
        assertEquals(before.length, 1);
        const stamp = (await Deno.stat(join(cache, before[0]!))).ino;
        assertEquals((await start(["--version"])).code, 0);
        assertEquals([...Deno.readDirSync(cache)].map(({ name }) => name), before);
        assertEquals((await Deno.stat(join(cache, before[0]!))).ino, stamp);
      });

      await t.step("the demo model is inside", async () => {
        const [id] = [...Deno.readDirSync(cache)];
        const model = join(cache, id!.name, "demo");
        const { code, out, err } = await start(["info", model, "--json"]);
        assertEquals(code, 0, err);
        const names = JSON.parse(out).model.components.map(({ name }: { name: string }) => name);
        assertEquals(names, ["transformer", "vae", "text_encoder"]);
      });

      await t.step("it renders a clip that others can read", () => assertRenders(start, empty));

      await t.step("user errors keep their exit status, and arguments arrive whole", async () => {
        const { code, out, err } = await start(["generate", "a  'b' \"c\" $d\n*", "--frames", "30"]);
        assertEquals([code, out], [1, ""]);
        assertEquals(err.split("\n").length, 2);
        assertStringIncludes(err, "tilereel: --frames 30 does not fit");
        assertStringIncludes((await start(["info", "a", "b  c"])).err, 'unexpected argument "b  c"');
      });

      await t.step("without a home it unpacks among the temporary files", async () => {
        for (const [name, env] of Object.entries({ none: {}, unwritable: { HOME: "/proc/none" } })) {
          const temporary = join(dir, name);
          await Deno.mkdir(temporary);
          const { code, err } = await start(["--version"], { TMPDIR: temporary, ...env });
          assertEquals([code, err], [0, ""]);
          assert([...Deno.readDirSync(temporary)].some(({ name }) => name.startsWith("tilereel-")));
        }
      });

      await t.step("a cut-off executable says so and leaves nothing", async () => {
        const cut = join(dir, "cut");
        const other = join(dir, "other");
        await Deno.mkdir(other);
        await Deno.copyFile(binary, cut);
        await Deno.truncate(cut, 20_000_000);
        const { code, err } = await execute(cut, ["--version"], {
          cwd: empty,
          clearEnv: true,
          env: { ...SURROUNDINGS, XDG_CACHE_HOME: other },
        });
        assertEquals(code, 1);
        assertStringIncludes(err, "tilereel: cannot unpack into");
        assertEquals([...Deno.readDirSync(join(other, "tilereel"))], []);
      });

      assertEquals([...Deno.readDirSync(empty)], []);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
});
