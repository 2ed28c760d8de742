/**
 * Clips that are there already, and clips that are repeated, as users meet them.
 */
import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { readRecord } from "../../../model/video/record.ts";
import { assertRefused, execute, inTempDir, listFiles, MODEL, program, QUICK, tilereel } from "../../process.ts";

Deno.test("a batch with other settings leaves the clips that are there, says what differs, and goes on", () =>
  inTempDir(async (dir) => {
    const prompts = join(dir, "p.jsonl"), out = join(dir, "clips");
    const lines = (...lines: object[]) =>
      Deno.writeTextFile(prompts, lines.map((line) => JSON.stringify(line)).join("\n"));
    const run = async (...args: string[]) => {
      const { code, out: said, err } = await tilereel([
        ...["generate", "--prompts", prompts, "--out", out, "--format", "frames", "--json", ...QUICK, ...args],
      ]);
      return { code, said: said.trim().split("\n").map((line) => JSON.parse(line)), err };
    };
    await lines({ prompt: "a", seed: 1 }, { prompt: "b", seed: 1, attention: "vorta", tau: 0.5 });
    const first = await run();
    assertEquals([first.code, first.said.map(({ attention, tau }) => [attention, tau])], [0, [
      ["full", undefined],
      ["vorta", 0.5],
    ]]);
    await lines({ prompt: "a", seed: 1 }, { prompt: "b", seed: 1, attention: "vorta", tau: 0.7 }, {
      ...{ prompt: "c", seed: 1, guidance: 1e300 },
    }, { prompt: "d", seed: 2 });
    const second = await run();
    assertEquals(second.code, 1);
    assertEquals(second.said.map(({ skipped, different, error }) => skipped ? different ?? "same" : error ?? "made"), [
      "same",
      "tau 0.5, now 0.7",
      "denoising ended in nothing but numbers that are not finite, and no clip: try a lower guidance; if that changes " +
      "nothing the model's weights are damaged",
      "made",
    ]);
    assertStringIncludes(second.err, "0002-b-1/ was made with other settings (tau 0.5, now 0.7) and is left as it is");
    assertStringIncludes(
      second.err,
      "1 clip rendered, 1 already made and skipped, 1 left as it is, 1 failed:\n",
    );
    assertEquals((await readRecord(join(out, "0002-b-1")))?.tau, 0.5);
    await lines({ prompt: "a", seed: 1 }, { prompt: "b", seed: 1, attention: "vorta", tau: 0.7 });
    const third = await run("--overwrite");
    assertEquals(third.said.map(({ skipped = false }) => skipped), [true, false]);
    assertEquals((await readRecord(join(out, "0002-b-1")))?.tau, 0.7);
    assertEquals(listFiles(out).filter((name) => !name.includes("png")), [
      ...["0001-a-1/", "0001-a-1/clip.json", "0002-b-1/", "0002-b-1/clip.json", "0004-d-2/", "0004-d-2/clip.json"],
    ]);
  }));

Deno.test("a GPU that is lost is opened again for its clip, which goes on and is the same then", () =>
  inTempDir(async (dir) => {
    const args = ["generate", "a", "--seed", "1", ...QUICK, "--steps", "20", "--format", "gif", "--out"];
    const usual = await tilereel([...args, "usual.gif"], { cwd: dir });
    const lost = await execute(
      Deno.execPath(),
      program("tests/lose_device.ts", ["70x1", ...args, "lost.gif"]),
      { cwd: dir, env: { NO_COLOR: "1" } },
    );
    assertEquals([usual.code, lost.code], [0, 0], lost.err);
    const note =
      /Note: the GPU was lost while working, .* read from disk in each step, and the clip goes on after step (\d+) of 20\./g;
    const notes = [...lost.err.replaceAll(/\s+/g, " ").matchAll(note)];
    assertEquals(notes.length, 1, lost.err);
    assert(Number(notes[0]![1]) >= 1, notes[0]![0]);
    assertEquals(await Deno.readFile(join(dir, "lost.gif")), await Deno.readFile(join(dir, "usual.gif")));
  }));

Deno.test("a GPU that is lost twice ends its clip; the next one of the batch gets another", () =>
  inTempDir(async (dir) => {
    await Deno.writeTextFile(join(dir, "p.jsonl"), '{"prompt": "a", "steps": 200}\n{"prompt": "b"}\n');
    const args = ["500x2", "generate", "--prompts", "p.jsonl", "--out", "clips", "--seed", "1", ...QUICK];
    const { code, out } = await execute(Deno.execPath(), program("tests/lose_device.ts", args), { cwd: dir });
    assertEquals(code, 1);
    assertStringIncludes(out, "1 clip rendered, 1 failed:\n  clips/0001-a-1.mp4: the GPU was lost while working");
    assertEquals(listFiles(join(dir, "clips")), ["0002-b-1.mp4"]);
  }));

Deno.test("--like repeats a clip byte for byte, and so does the command line that info shows", () =>
  inTempDir(async (dir) => {
    const router = join(dir, "my.safetensors");
    await Deno.copyFile(join(MODEL, "router.safetensors"), router);
    const run = async (...args: string[]) => {
      const { code, out, err } = await tilereel(args, { cwd: dir });
      assertEquals(code, 0, err);
      return { out, err };
    };
    const options = [...QUICK, "--seed", "5", "--tau", "0.4", "--negative", "it's dark", "--fps", "23.976"];
    await run("generate", "a red circle", ...options, "--router", router, "--out", "a.mp4");
    const { err } = await run("generate", "--like", "a.mp4", "--out", "b.mp4");
    assert(!err.includes("was made"), err);
    const [a, b] = await Promise.all(["a.mp4", "b.mp4"].map((name) => Deno.readFile(join(dir, name))));
    assertEquals(a, b);
    const text = new TextDecoder("latin1").decode(a);
    assertStringIncludes(text, '"router":"my.safetensors"');
    assert(!text.includes(dir), "the clip says where the user's files are");

    const { out } = await run("info", "a.mp4");
    assertStringIncludes(out, "\n  negative       it's dark\n");
    const line = /^or: tilereel (.*)$/m.exec(out)![1]!;
    const words = [Deno.execPath(), ...program("cli/main.ts", [])].map((word) => `'${word}'`).join(" ");
    const repeated = await execute("sh", ["-c", `${words} ${line} --out c.mp4 --quiet`], { cwd: dir });
    assertEquals([repeated.code, repeated.err], [0, ""]);
    assertEquals(await Deno.readFile(join(dir, "c.mp4")), a);
    assertEquals(JSON.parse((await run("info", "a.mp4", "--json")).out).tau, 0.4);

    // The model's own router has the same contents, whatever is in a file of that name.
    await Deno.writeTextFile(router, "another");
    await run("generate", "--like", "a.mp4", "--out", "d.mp4");
    assertEquals((await readRecord(join(dir, "d.mp4")))?.router, "router.safetensors");
    // What is given goes first.
    await run("generate", "a blue ring", "--like", "a.mp4", "--attention", "full", "--seed", "6", "--out", "e.mp4");
    const record = await readRecord(join(dir, "e.mp4"));
    assertEquals([record?.prompt, record?.attention, record?.seed, record?.tau], ["a blue ring", "full", 6, undefined]);
    assertNotEquals(await Deno.readFile(join(dir, "e.mp4")), a);
    // At a size for which the model has another flow shift, that is used.
    const size = ["--size", "448x448", "--frames", "1", "--attention", "full"];
    const large = await run("generate", "--like", "a.mp4", ...size, "--out", "f.png");
    assertStringIncludes(
      large.err,
      "Note: the flow shift is 5, which the model has for 448x448 with 1 frame, and not 3",
    );
    assertEquals((await readRecord(join(dir, "f.png")))?.flowShift, 5);
  }));

Deno.test("prompts from the standard input, several clips of each", () =>
  inTempDir(async (dir) => {
    const words = [Deno.execPath(), ...program("cli/main.ts", [])].map((word) => `'${word}'`).join(" ");
    const piped = (text: string, args: string) =>
      execute("sh", ["-c", `printf '${text}' | ${words} generate --prompts - ${args}`], { cwd: dir });
    const made = await piped("a\\n", `--count 2 --seed 3 --format png --out . ${QUICK.join(" ")}`);
    assertEquals(made.code, 0, made.err);
    assertEquals(listFiles(dir), ["0001-a-3.png", "0001-a-4.png"]);
    assertRefused(await piped('[{"prompt": "a"}]', "--out ."), "the standard input is a JSON array, but JSONL was");
    assertRefused(await tilereel(["generate", "a", "--prompt", "b"]), "the prompt was given twice");
  }));
