/** Guidance in two processes as users run it: each on a software adapter, and one of them killed. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { openSafetensors } from "../../../model/checkpoint/safetensors.ts";
import { writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import { assertRefused, inTempDir, listFiles, MODEL, ROOT, start, tilereel } from "../../process.ts";
import { startAssistant } from "./assistant.ts";

const CLIP = ["--size", "32x32", "--frames", "5", "--steps", "3", "--negative", "a blue ring"];
const SECRET = "0123456789abcdef-secret";

Deno.test("a batch in two processes has the bytes of one, with sparse attention and step caches", () =>
  inTempDir(async (dir) => {
    const lines = [
      { prompt: "a red circle" },
      { prompt: "a green square", attention: "vorta", tau: 0.5 },
      { prompt: "a yellow ring", attention: "veda", keep: 0.5, cache: "first-block", cache_threshold: 0.5 },
      { prompt: "a white cross", attention: "vorta", full_branch: "veda", cache: "easy", cache_first: 2, steps: 5 },
      { prompt: "a blue ring", guidance: 1 },
    ];
    await Deno.writeTextFile(join(dir, "p.jsonl"), lines.map((line) => JSON.stringify(line)).join("\n"));
    const batch = ["generate", "--prompts", "p.jsonl", "--format", "frames", "--json", ...CLIP];
    const alone = await tilereel([...batch, "--out", "alone"], { cwd: dir });
    assertEquals(alone.code, 0, alone.err);
    await using assistant = await startAssistant(dir, ["--token", SECRET]);
    const split = await tilereel([...batch, "--out", "split", "--split-guidance", assistant.address], {
      ...{ cwd: dir, env: { TILEREEL_TOKEN: SECRET } },
    });
    assertEquals(split.code, 0, split.err);
    assertStringIncludes(split.err, "runs one pass in each step of this clip, so there is no guidance to split");
    const files = listFiles(join(dir, "alone"));
    assertEquals(listFiles(join(dir, "split")), files);
    assertEquals(files.length, 5 * 7);
    for (const file of files.filter((name) => !name.endsWith("/"))) {
      assertEquals(await Deno.readFile(join(dir, "split", file)), await Deno.readFile(join(dir, "alone", file)), file);
    }
    const printed = await assistant.said("The process has gone.");
    assertEquals(printed.split("A clip of 32x32").length - 1, 4, printed);
    assert(![split.out, split.err, printed].some((text) => text.includes(SECRET)), "the secret was printed");
  }));

Deno.test("two experts and a picture: the bytes are those of one process", () =>
  inTempDir(async (dir) => {
    const model = join(ROOT, "tests/fixtures/tiny_wan_a14b_pipeline"), embeddings = join(dir, "e.safetensors");
    using source = await openSafetensors(join(model, "reference.safetensors"));
    const tensors = await Promise.all(["prompt_embeds", "negative_prompt_embeds"].map(async (name) => {
      const { dtype, shape } = source.info(name);
      return [name, { dtype, shape, data: await source.read(name) }] as const;
    }));
    await writeSafetensors(embeddings, Object.fromEntries(tensors));
    const clip = [
      ...["generate", "a cat", "--model", model, "--embeddings", embeddings, "--image", join(model, "first.png")],
      ...["--size", "48x32", "--frames", "5", "--steps", "4", "--guidance", "3", "--guidance-low", "2", "--seed", "3"],
    ];
    await using assistant = await startAssistant(dir, ["--model", model]);
    const [alone, split] = await Promise.all([
      tilereel([...clip, "--out", "alone.gif"], { cwd: dir }),
      tilereel([...clip, "--out", "split.gif", "--split-guidance", assistant.address], { cwd: dir }),
    ]);
    assertEquals([alone.code, split.code], [0, 0], alone.err + split.err);
    assertEquals(await Deno.readFile(join(dir, "split.gif")), await Deno.readFile(join(dir, "alone.gif")));
    await assistant.said("A clip of 48x32");
  }));

Deno.test("a clip goes on alone when the assistant is killed; an assistant goes on when a process is", () =>
  inTempDir(async (dir) => {
    const clip = ["generate", "a red circle", ...CLIP, "--steps", "12", "--seed", "3", "--quiet"];
    const alone = await tilereel([...clip, "--out", "alone.gif"], { cwd: dir });
    assertEquals(alone.code, 0, alone.err);
    await using assistant = await startAssistant(dir);
    const split = ["--split-guidance", assistant.address];
    const killed = start(dir, "cli/main.ts", [...clip, "--out", "killed.gif", ...split]);
    await assistant.said("A clip of 32x32");
    // Another process is told so.
    assertRefused(
      await tilereel([...clip, "--out", "other.gif", ...split], { cwd: dir }),
      `the assistant at ${assistant.address} refuses: it helps another process; start a second assistant`,
    );
    killed.process.kill("SIGKILL");
    await assistant.said("The process has gone.");
    const going = start(dir, "cli/main.ts", [
      ...["generate", "a red circle", ...CLIP, "--steps", "12", "--seed", "3", "--out", "split.gif", ...split],
    ]);
    await assistant.said("has gone.\nA process has connected.\nA clip of 32x32");
    assistant.process.kill("SIGTERM");
    assertEquals((await assistant.process.status).code, 143);
    const { code, err } = await going.output;
    assertEquals(code, 0, err);
    assertStringIncludes(err, `Note: the assistant at ${assistant.address} has gone, so the clip goes on without it.`);
    assertEquals(await Deno.readFile(join(dir, "split.gif")), await Deno.readFile(join(dir, "alone.gif")));
    assertEquals(listFiles(dir), ["alone.gif", "split.gif"]);
    const nobody = await tilereel([...clip, "--out", "nobody.gif", ...split], { cwd: dir });
    assertRefused(nobody, `no assistant listens at ${assistant.address}: start one there with "tilereel assist`);
  }));

Deno.test("an assistant that would not compute the same is refused in a sentence, before the model is loaded", () =>
  inTempDir(async (dir) => {
    await using assistant = await startAssistant(dir, ["--token", SECRET]);
    const refused = async (args: readonly string[], message: string, env: Record<string, string> = {}) => {
      const clip = ["generate", "a", "-q", ...CLIP, "--out", "x.gif", "--split-guidance", assistant.address, ...args];
      assertRefused(await tilereel(clip, { cwd: dir, env }), message);
    };
    const own = ["--token", SECRET];
    await refused([], "asks for a secret: give the one that it was started with");
    await refused([], "has another secret: give the one", { TILEREEL_TOKEN: `${SECRET}!` });
    await refused(
      [...own, "--lora", join(MODEL, "few_steps.safetensors")],
      "has another model, LoRA or format of weights",
    );
    await refused(
      ["--token", "short"],
      "--token must have at least 16 characters, all of ASCII, and no blank at either end",
    );
    // Its router has another digest.
    using source = await openSafetensors(join(MODEL, "router.safetensors"));
    const tensors = await Promise.all(
      source.names().map(async (name) => {
        const { dtype, shape } = source.info(name);
        return [name, {
          dtype,
          shape,
          data: (await source.read(name)).map((byte, i) => i === 0 ? byte ^ 1 : byte),
        }] as const;
      }),
    );
    await writeSafetensors(join(dir, "r.safetensors"), Object.fromEntries(tensors), source.metadata);
    await refused(
      [...own, "--attention", "vorta", "--router", "r.safetensors"],
      "the file of --router is another one there: give the assistant the same file with --router",
    );
    assertRefused(
      await tilereel(["generate", "a", ...CLIP, "--split-guidance", "8643"], { cwd: dir }),
      '--split-guidance must be a host and a port, as in localhost:8643, not "8643"',
    );
    assertRefused(
      await tilereel(["assist", "--listen", "0.0.0.0:0"], { cwd: dir }),
      "--listen 0.0.0.0 lets other machines in, so --token SECRET is needed",
    );
    assertRefused(
      await tilereel(["assist", "--listen", assistant.address], { cwd: dir }),
      `${assistant.address} is in use: end what uses it, or choose another port with --listen`,
    );
    assertEquals(listFiles(dir), ["r.safetensors"]);
  }));
