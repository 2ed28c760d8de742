import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { join, relative } from "node:path";
import { pathToFileURL } from "node:url";
import { Router } from "../../../model/vorta/router.ts";
import { loadRouter } from "../../../model/vorta/router_file.ts";
import { saveRouter } from "../../../model/vorta/save_router.ts";
import { assertRefused, inTempDir, listFiles, ROOT, start, tilereel } from "../../process.ts";

/** A training of seconds: a grid of 2×2×2 tokens. */
const QUICK = ["--size", "32x32", "--frames", "5", "--sampling-steps", "1", "--guidance", "1", "--accumulate", "1"];
const SIZES = ["--tile", "1x1x1", "--window", "1x1x1", "--bucket", "1x2x2"];
const LINE = ["train", "router", "--prompts", "p.txt", ...QUICK, ...SIZES];

Deno.test("tilereel train shows what can be trained", async () => {
  for (const args of [["train"], ["train", "--help"], ["help", "train"], ["train", "-h"]]) {
    const { code, out, err } = await tilereel(args);
    assertEquals([code, err], [0, ""]);
    assert(out.startsWith("Usage: tilereel train <router"), out);
    assertStringIncludes(out, "\n  router");
  }
  for (const args of [["train", "router", "--help"], ["help", "train", "router"]]) {
    const { code, out, err } = await tilereel(args);
    assertEquals([code, err], [0, ""]);
    assert(out.startsWith("Usage: tilereel train router [options]\n"), out);
    for (
      const part of [
        "--distillation-weight X",
        "or 5x9x8, or less on small clips;",
        "(default: 0.01)",
        "--resume",
        "Examples:",
      ]
    ) {
      assertStringIncludes(out, part);
    }
  }
});

Deno.test("--dry-run says what both trainings would take, and loads and writes nothing", () =>
  inTempDir(async (dir) => {
    await Deno.writeTextFile(join(dir, "p.txt"), "a red circle\na blue square\n");
    const plan = async (kind: string, ...args: string[]) => {
      const { code, out, err } = await tilereel(["train", kind, "--prompts", "p.txt", "--dry-run", ...args], {
        cwd: dir,
      });
      assertEquals([code, err], [0, ""]);
      return out;
    };
    const { memory, ...planned } = JSON.parse(await plan("router", "--json", "--steps", "7", "--out", "x"));
    assertEquals(planned, {
      ...{ out: "x", steps: 7, clips: 2, tokens: 512, samples: 28, weights: "resident", unit: "sample" },
      densities: { coreset: 0.25, sliding: 27 / 64 },
    });
    assert(memory.gpu > 30e6 && memory.gpu < 60e6 && memory.host === 0, JSON.stringify(memory));
    // With little memory, weights are streamed, and inputs of blocks go to this machine's memory.
    const little = JSON.parse(await plan("router", "--json", "--memory", "26MB"));
    assertEquals([little.weights, little.memory.host > 0], ["stream", true]);
    assertRefused(
      await tilereel(["train", "router", "--prompts", "p.txt", "--dry-run", "--memory", "20MB"], { cwd: dir }),
      "of GPU memory at this size, but the limit is 19.1 MiB; raise the limit, or train on smaller clips",
    );
    const tiles = await plan("tiles", "--size", "256x256");
    assertStringIncludes(tiles, "Scores for 8 layers of 8 heads, tiles of 128 tokens");
    assertStringIncludes(tiles, "8x16x16 = 2048 tokens");
    assertEquals(listFiles(dir), ["p.txt"]);
  }));

Deno.test("a router is trained across sizes, whose tiles fit each of them", () =>
  inTempDir(async (dir) => {
    const lines = [{ prompt: "a red circle" }, { prompt: "a blue square", size: "128x64" }];
    await Deno.writeTextFile(join(dir, "p.jsonl"), lines.map((line) => JSON.stringify(line)).join("\n"));
    const args = ["train", "router", "--prompts", "p.jsonl", ...QUICK, "--steps", "2", "--out", "r", "-q"];
    const { code, out: said, err } = await tilereel([...args, "--json"], { cwd: dir });
    assertEquals([code, err], [0, ""]);
    // The next commands show the largest clip. One step is too few for dense ones.
    const shown = "'a blue square' --size 128x64 --frames 5 --guidance 1 --steps 1";
    assertEquals(JSON.parse(said).next, [
      `tilereel compare ${shown} --setting full --setting 'vorta router=r/router.safetensors'`,
      `tilereel generate ${shown} --router r/router.safetensors`,
    ]);
    const { settings, sizes } = await loadRouter(join(dir, "r/router.safetensors"));
    assertEquals([settings, sizes!.map(({ grid }) => grid)], [undefined, [[2, 2, 2], [2, 4, 8]]]);
    // Routers for other sizes come along; what was trained now is not replaced.
    await Deno.writeTextFile(join(dir, "p.txt"), "a red circle\n");
    const add = [...LINE, "--steps", "1", "--out", "t", "-q", "--dense-share", "0.5", "--add-to"];
    const added = await tilereel([...add, "r/router.safetensors"], { cwd: dir });
    assertEquals([added.code, added.err], [0, ""]);
    const both = await loadRouter(join(dir, "t/router.safetensors"));
    assertEquals(both.sizes!.map(({ grid, settings, denseShare }) => [grid, settings?.tile, denseShare]), [
      [[2, 2, 2], [1, 1, 1], 0.5],
      [[2, 4, 8], undefined, undefined],
    ]);
    await saveRouter(join(dir, "old.safetensors"), both.router, both.settings!);
    assertRefused(
      await tilereel([...add, "old.safetensors", "--resume"], { cwd: dir }),
      "--add-to old.safetensors: it does not say for clips of which size its routers are, because an earlier version or another " +
        "program made it",
    );
    const other = new Router(1, 2, [{ weight: new Float32Array(6), bias: new Float32Array(3) }]);
    await saveRouter(join(dir, "other.safetensors"), other, both.settings!, {}, { grids: [[1, 1, 1]] });
    assertRefused(
      await tilereel([...add, "other.safetensors"], { cwd: dir }),
      "--add-to other.safetensors was made for another model: it routes 1 blocks with 1 heads on 2 channels",
    );
    assertRefused(
      await tilereel([...args, "--bucket", "2x2x2"], { cwd: dir }),
      "--bucket would not come into the router's file, because the defaults of --tile differ for clips of these sizes: " +
        "give --tile, too, or train one size after the other with --add-to",
    );
    const { out } = await tilereel([...args, "--dry-run", "--out", "s"].filter((arg) => arg !== "-q"), { cwd: dir });
    assertStringIncludes(out, "Clips of 2 sizes, at most 128x64, 5 frames: 2x4x8 = 64 tokens.");
  }));

Deno.test("mistyped trainings: one sentence, exit 1, and nothing written", () =>
  inTempDir(async (dir) => {
    await Deno.writeTextFile(join(dir, "p.txt"), "a red circle\n");
    const refused = async (args: string[], message: string) =>
      assertRefused(await tilereel(["train", ...args], { cwd: dir }), message);
    const router = (...args: string[]) => ["router", "--prompts", "p.txt", ...args];
    await refused(["routr"], '"routr" is not a command of "tilereel train": did you mean "tilereel train router"?');
    await refused(
      ["--prompts", "p.txt"],
      '"--prompts" is not an option of "tilereel train"; see "tilereel train --help"',
    );
    await refused(["router"], "give --prompts FILE (the model renders the clips) or --data DIR");
    await refused(router("--data", "."), "give only one of --prompts FILE");
    await refused(
      ["router", "--prompts", "-"],
      "--prompts - is read when the training is resumed, too: write the prompts",
    );
    await refused(router("x"), 'unexpected argument "x": the usage is tilereel train router [options]');
    await refused(router("--learning-rate", "1"), 'not an option of "tilereel train router": did you mean --lr?');
    await refused(router("--lr", "0"), '--lr must be a number above 0, not "0"');
    await refused(router("--steps", "0"), "--steps must be a whole number of at least 1");
    await refused(router("--tile", "5x9"), "--tile must be frames, rows and columns as in 5x9x8, each at least 1, not");
    await refused(router("--bucket", "0x1x1"), "--bucket must be frames, rows and columns");
    await refused(
      router("--bucket", "1x2x2", "--rate", "0.8"),
      "a reduction rate of 0.8 keeps nothing of a bucket of 4",
    );
    await refused(router("--fps", "8"), "--fps has no effect with --prompts");
    await refused(["router", "--data", ".", "--guidance", "2"], "--guidance has no effect with --data");
    await refused(router("--resume"), "checkpoint.safetensors does not exist, so there is no training to resume");
    await refused(router("--model", "nowhere"), "nowhere");
    await refused(["router", "--prompts", "none.txt"], "none.txt");
    await refused(router("--out", "p.txt/x"), "p.txt/x");
    assertEquals(listFiles(dir), ["p.txt"]);
  }));

Deno.test({
  name: "Ctrl-C saves, says how to go on, and going on ends as an unbroken run",
  ignore: Deno.build.os === "windows",
  fn: () =>
    inTempDir(async (dir) => {
      await Deno.writeTextFile(join(dir, "p.txt"), "a red circle\na blue square\na green cross\n");
      const whole = await tilereel([...LINE, "--steps", "6", "--out", "whole", "--json"], { cwd: dir });
      assertEquals([whole.code, whole.err], [0, ""]);
      const { steps, window, losses, shares, density, verdict, next } = JSON.parse(whole.out);
      assertEquals([steps, window, verdict.grade, next.length], [6, 3, "unknown", 2]);
      assertAlmostEquals(shares.full + shares.coreset + shares.sliding, 1, 1e-12);
      assert(0 < density && density <= 1 && losses.distillation.last > 0, whole.out);
      const router = join(dir, "whole/router.safetensors");
      const { settings } = await loadRouter(router);
      assertEquals(settings, { tile: [1, 1, 1], window: [1, 1, 1], bucket: [1, 2, 2], rate: 0.5 });

      const logged = async (out: string) => {
        const text = await Deno.readTextFile(join(dir, out, "metrics.jsonl")).catch(() => "");
        return text.split("\n").slice(0, -1).map((line) => JSON.parse(line));
      };
      for (const [signal, status, out] of [["SIGINT", 130, "it's broken"], ["SIGTERM", 143, "ended"]] as const) {
        const line = [...LINE, "--steps", "1000", "--out", out];
        const { process, output, until } = start(dir, "cli/main.ts", line);
        await until(async () => (await logged(out)).length >= 2);
        process.kill(signal);
        const { code, out: said, err } = await output;
        assertEquals(code, status, err);
        assertStringIncludes(err, "Stopping after this layer; Ctrl-C again stops at once");
        const steps = (await logged(out)).length;
        assertStringIncludes(
          said,
          `Stopped after ${steps} of 1000 steps, which are saved in ${out}/checkpoint.safetensors. Continue with`,
        );
        const quoted = out === "ended" ? "ended" : `'it'\\''s broken'`;
        assertStringIncludes(said, `\n  tilereel ${LINE.join(" ")} --steps 1000 --out ${quoted} --resume\n`);
        assertEquals(listFiles(join(dir, out)), ["checkpoint.safetensors", "metrics.jsonl"]);
        assert(!/error|bug/i.test(err), err);

        // As many steps as the unbroken run, or as were done before the signal came through.
        const args = ["--steps", String(Math.max(steps, 6)), "--out", out, "--resume"];
        const resumed = await tilereel([...LINE, ...args], { cwd: dir });
        assertEquals(resumed.code, 0, resumed.err);
        assertStringIncludes(resumed.out, `${out}/router.safetensors: ${Math.max(steps, 6)} steps in`);
        assertStringIncludes(resumed.out, "\nVerdict: too early to tell. ");
        assertStringIncludes(
          resumed.out,
          `\n  tilereel generate 'a red circle' --size 32x32 --frames 5 --guidance 1 --steps 1 --router ${
            out === "ended" ? out : `'it'\\''s broken`
          }/router.safetensors`,
        );
        const expected = await logged("whole");
        const untimed = (lines: Record<string, unknown>[]) =>
          lines.slice(0, 6).map(({ seconds: _, steps: __, ...rest }) => rest);
        assertEquals(untimed(await logged(out)), untimed(expected));
        assert(steps <= 6, `the signal took ${steps} steps`);
        assertEquals(await Deno.readFile(join(dir, out, "router.safetensors")), await Deno.readFile(router));
      }

      const again = async (args: string[], message: string) =>
        assertRefused(
          await tilereel([...LINE, "--steps", "6", "--out", "whole", "-q", ...args], { cwd: dir }),
          message,
        );
      await again([], "whole already holds a training; resume it, or choose another folder");
      await again(["--resume", "--lr", "0.1"], "lr was 0.01 and is 0.1; give the options that it was started with");
      await again(["--resume", "--bucket", "2x2x2"], "bucket was 1x2x2 and is 2x2x2");
      await again(
        ["--resume", "--steps", "5"],
        "checkpoint.safetensors is of step 6, but the training should end at step 5",
      );
    }),
});

Deno.test({
  name: "the first signal asks work to end, the second ends the program; without work so does the first",
  ignore: Deno.build.os === "windows",
  fn: () =>
    inTempDir(async (dir) => {
      const script = (work: string) => `
        import { handleSignals, Interruption } from ${
        JSON.stringify(pathToFileURL(join(ROOT, "tools/program/signals.ts")).href)
      };
        import { writeAtomically } from ${JSON.stringify(pathToFileURL(join(ROOT, "model/files/output.ts")).href)};
        handleSignals();
        ${work}
        setInterval(() => {}, 1000);
        writeAtomically("half", async (path) => {
          await Deno.writeTextFile(path, "half");
          console.error("ready");
          await new Promise(() => {});
        });
      `;
      const begin =
        `const work = new Interruption(); work.signal.addEventListener("abort", () => console.error("asked"));`;
      const path = join(dir, "work.ts");
      for (const [signal, status] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
        for (const [work, asked] of [[begin, true], [`${begin} work[Symbol.dispose]();`, false]] as const) {
          await Deno.writeTextFile(path, script(work));
          const { process, output, until } = start(dir, relative(ROOT, path), []);
          await until((err) => err.includes("ready"));
          process.kill(signal);
          if (asked) {
            await until((err) => err.includes("asked"));
            process.kill("SIGINT");
          }
          const { code, err } = await output;
          assertEquals([code, err], asked ? [130, "ready\nasked\n"] : [status, "ready\n"]);
          assertEquals(listFiles(dir), ["work.ts"]);
        }
      }
    }),
});
