/** Clips that are broken off, and go on when the same command is run again. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { unfinishedPath } from "../../../cli/generate/unfinished.ts";
import { openSafetensors } from "../../../model/checkpoint/safetensors.ts";
import { loadSamplingState } from "../../../model/state_file.ts";
import { writeImageModel } from "../../image_model.ts";
import { execute, inTempDir, listFiles, program, QUICK, ROOT, start, tilereel } from "../../process.ts";

const CLIP = ["generate", "a red circle", ...QUICK, "--steps", "40"];

/** Starts a clip that is kept after every step, and ends it after so many, or a few more. */
async function brokenOff(dir: string, args: readonly string[], signal: Deno.Signal = "SIGKILL", steps = 2) {
  const { process, output, until } = start(dir, "tests/keep_every_step.ts", args);
  let kept: string | undefined;
  await until(async () => {
    kept = listFiles(dir).find((name) => name.endsWith(".unfinished"));
    return kept !== undefined && (await loadSamplingState(join(dir, kept)).catch(() => undefined))?.step! >= steps;
  });
  process.kill(signal);
  return { kept: kept!, ...await output };
}

const GOES_ON = / was broken off and goes on after step (\d+) of 40, with the seed (\d+); --no-resume begins it anew\./;

Deno.test("a clip that is killed goes on when the same command is run again, and is the same to the byte", () =>
  inTempDir(async (dir) => {
    const seeded = [...CLIP, "--seed", "7", "--out", "a.gif"];
    assertEquals((await tilereel([...seeded.slice(0, -1), "whole.gif"], { cwd: dir })).code, 0);
    const { kept } = await brokenOff(dir, seeded);
    assertEquals(kept, ".a.gif.unfinished");
    const again = await tilereel(seeded, { cwd: dir });
    assertEquals(again.code, 0, again.err);
    const [, step, seed] = GOES_ON.exec(again.err.replaceAll(/\s+/g, " "))!;
    assert(Number(step) >= 2 && seed === "7", again.err);
    assertEquals(listFiles(dir), ["a.gif", "whole.gif"]);
    assertEquals(await Deno.readFile(join(dir, "a.gif")), await Deno.readFile(join(dir, "whole.gif")));
  }));

Deno.test("a clip of a picture by two experts, killed before they change and again after it, is the same to the byte", () =>
  inTempDir(async (dir) => {
    const model = join(dir, "model"), STEPS = 120, CHANGE = 30;
    await writeImageModel(model);
    // At a flow shift of 3, A14B's second expert takes over at 0.9 when a quarter of the steps is done.
    const clip = [
      ...[
        "generate",
        "a cat",
        "--model",
        model,
        "--image",
        join(ROOT, "tests/fixtures/tiny_wan_a14b_pipeline/first.png"),
      ],
      ...["--size", "48x32", "--frames", "5", "--steps", `${STEPS}`, "--flow-shift", "3", "--seed", "7", "--out"],
    ];
    const whole = await tilereel([...clip, "whole.gif"], { cwd: dir });
    assertEquals(whole.code, 0, whole.err);
    const goesOn = new RegExp(`goes on after step (\\d+) of ${STEPS}`);
    const first = await brokenOff(dir, [...clip, "a.gif"]);
    assertEquals(first.kept, ".a.gif.unfinished");
    const second = await brokenOff(dir, [...clip, "a.gif"], "SIGKILL", CHANGE + 10);
    const before = Number(goesOn.exec(second.err.replaceAll(/\s+/g, " "))![1]);
    const last = await tilereel([...clip, "a.gif"], { cwd: dir });
    assertEquals(last.code, 0, last.err);
    const after = Number(goesOn.exec(last.err.replaceAll(/\s+/g, " "))![1]);
    assert(before < CHANGE && after > CHANGE, `${before} and ${after}`);
    assertEquals(await Deno.readFile(join(dir, "a.gif")), await Deno.readFile(join(dir, "whole.gif")));
  }));

Deno.test("a clip whose seed was not given goes on with its seed, unless it is to begin anew", () =>
  inTempDir(async (dir) => {
    const { kept, err } = await brokenOff(dir, CLIP, "SIGINT");
    assert(
      /Stopped after step \d+ of 40, which is kept. Continue with: tilereel generate 'a red circle'/.test(err),
      err,
    );
    const seed = /^out\/\.a-red-circle-(\d+)\.mp4\.unfinished$/.exec(kept)![1]!;
    const other = await tilereel([...CLIP, "--no-resume"], { cwd: dir });
    assertEquals([other.code, other.err.includes("broken off")], [0, false], other.err);
    assert(listFiles(dir).includes(kept));
    const again = await tilereel(CLIP, { cwd: dir });
    assertEquals(GOES_ON.exec(again.err.replaceAll(/\s+/g, " "))?.[2], seed, again.err);
    assert(listFiles(dir).includes(`out/a-red-circle-${seed}.mp4`));
    assert(!listFiles(dir).includes(kept));
  }));

Deno.test("a clip that a process goes on with is left alone by one that begins meanwhile", () =>
  inTempDir(async (dir) => {
    const { kept } = await brokenOff(dir, CLIP), seed = /-(\d+)\.mp4/.exec(kept)![1]!;
    const writer = async () => {
      using source = await openSafetensors(join(dir, kept));
      return source.metadata.writer;
    };
    const before = await writer(), first = start(dir, "cli/main.ts", CLIP);
    await first.until(async () => await writer() !== before);
    const second = await tilereel(CLIP, { cwd: dir });
    assertEquals([second.code, second.err.includes("broken off")], [0, false], second.err);
    const { code, err } = await first.output;
    assertEquals([code, GOES_ON.exec(err.replaceAll(/\s+/g, " "))?.[2]], [0, seed], err);
    assertEquals(listFiles(dir).filter((name) => name.endsWith(".mp4")).length, 2);
  }));

Deno.test("what is kept of a clip with other settings, and what is damaged, is said and not used", () =>
  inTempDir(async (dir) => {
    const seeded = [...CLIP, "--seed", "7", "--out", "a.gif"], { kept } = await brokenOff(dir, seeded);
    const bytes = await Deno.readFile(join(dir, kept)),
      said = async (...args: string[]) => {
        await Deno.writeFile(join(dir, kept), bytes);
        const { code, err } = await tilereel([...seeded, ...args], { cwd: dir });
        assertEquals(code, 0, err);
        assertEquals(listFiles(dir), ["a.gif"]);
        return err.replaceAll(/\s+/g, " ");
      };
    assertStringIncludes(
      await said("--steps", "1"),
      "a.gif was broken off with other settings (steps 40, now 1), so it begins anew.",
    );
    // They do not change the latents.
    assert(GOES_ON.test(await said("--fps", "8")));
    assert(!(await said("--no-resume")).includes("broken off"));
    bytes[bytes.length - 1]! ^= 1;
    assertStringIncludes(
      await said("--steps", "40"),
      "a.gif was broken off and begins anew, because what was kept of it is damaged.",
    );
  }));

Deno.test("of a clip that cannot be kept, that is said", () =>
  inTempDir(async (dir) => {
    const run = (...args: string[]) =>
      execute(Deno.execPath(), program("tests/keep_every_step.ts", [...CLIP, ...args]), {
        ...{ cwd: dir, env: { NO_COLOR: "1" } },
      });
    const cached = await run("--out", "a.gif", "--cache", "first-block"), kept = join(dir, ".b.gif.unfinished");
    assertEquals(cached.code, 0, cached.err);
    const because = "begins again if it is broken off, because it cannot be saved:";
    assertStringIncludes(cached.err, `a.gif ${because} the cache first-block keeps too much.`);
    await Deno.mkdir(join(kept, "in-the-way"), { recursive: true });
    const hindered = await run("--out", "b.gif");
    assertEquals(hindered.code, 0, hindered.err);
    assertStringIncludes(hindered.err, `b.gif ${because} cannot write `);
    await Deno.remove(kept, { recursive: true });
    const name = `${"a".repeat(246)}.gif`, long = await run("--out", name);
    assertEquals([long.code, long.err.includes(because), listFiles(dir)], [0, false, ["a.gif", name, "b.gif"]]);
  }));

Deno.test("a folder of frames is kept under its own name, however it is said", () => {
  const folder = Deno.cwd(), kept = unfinishedPath(`${folder}/`);
  for (const said of ["./", folder, "a/../"]) assertEquals(unfinishedPath(said), kept);
});

Deno.test("frames may be made in the current folder", () =>
  inTempDir(async (dir) => {
    await Deno.mkdir(join(dir, "frames"));
    const { code, err } = await tilereel([...CLIP, "--steps", "2", "--out", ".", "--preview"], {
      cwd: join(dir, "frames"),
    });
    assertEquals([code, err.includes("bug"), listFiles(dir).length], [0, false, 7], err);
  }));
