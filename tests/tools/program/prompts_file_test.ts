import type { ClipValues } from "../../../tools/program/clip/clip_options.ts";
import { overlay } from "../../../tools/program/clip/clip_settings.ts";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { BatchValues } from "../../../tools/program/clip/batch_options.ts";
import { isMade, planClips, type PlanOptions } from "../../../cli/generate/clip_plan.ts";
import { parsePrompts } from "../../../tools/program/clip/prompts.ts";
import { readPrompts } from "../../../tools/program/prompts_file.ts";
import { slug } from "../../../tools/program/clip/slug.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";

const refuses = (content: string, message: string, path = "p.txt") =>
  assertThrows(() => parsePrompts(content, path), TilereelError, message);

async function inTempDir(test: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await test(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("files of other kinds are told from prompts", () =>
  inTempDir(async (dir) => {
    for (
      const [start, message] of [
        [
          [0, 0, 0, 32, ...new TextEncoder().encode("ftypisom")],
          "is an MP4 video, but a text file with one prompt per line",
        ],
        [[...new TextEncoder().encode("<!DOCTYPE html><html>")], "is a web page that was saved under this name, but"],
        [[...new TextEncoder().encode("GGUF\x03\0\0\0")], "is a GGUF file, but a text file"],
        [[0x61, 0xff], "it is not UTF-8 text"],
      ] as const
    ) {
      await Deno.writeFile(`${dir}/p.txt`, Uint8Array.from(start));
      await assertRejects(() => readPrompts(`${dir}/p.txt`), TilereelError, message);
    }
  }));

Deno.test("text: one prompt per line, without blank lines and comments", () => {
  assertEquals(parsePrompts("\uFEFFa cat\r\n\n  # no\n  a dog \n", "p.txt"), [
    { prompt: "a cat", values: {}, line: 1 },
    { prompt: "a dog", values: {}, line: 4 },
  ]);
});

Deno.test("JSONL: the clip options as keys", () => {
  const line =
    '{"prompt": "a cat", "seed": 7, "size": "832x480", "flow_shift": 3, "negative": "dogs", "out": "cat.gif", "steps": null}';
  assertEquals(parsePrompts(line, "p.jsonl"), [{
    prompt: "a cat",
    out: "cat.gif",
    values: { seed: 7, size: { width: 832, height: 480 }, "flow-shift": 3, negative: "dogs" },
    line: 1,
  }]);
});

Deno.test("JSONL: sigmas as a word, a text and a list", () => {
  const sigmas = (value: string) => parsePrompts(`{"prompt": "a", "sigmas": ${value}}`, "p.jsonl")[0]!.values.sigmas;
  assertEquals(sigmas('"wan"'), "wan");
  assertEquals(sigmas('"1, 0.5"'), [1, 0.5]);
  assertEquals(sigmas("[1, 0.75, 1e-3]"), [1, 0.75, 0.001]);
  refuses('{"prompt": 5}', 'line 1: "prompt" must be text in quotes, not 5');
  refuses('{"prompt": "a", "xyz": 5}', 'line 1: unknown key "xyz"; keys are prompt, out, size, ');
  refuses('{"prompt": "a", "sigmas": ["1"]}', '"sigmas" must be text or a number');
  refuses('{"prompt": "a", "sigmas": [0.5, 1]}', 'line 1: "sigmas" must be falling numbers');
  refuses(
    '{"prompt": "a", "sigmas": [1, 0.5], "steps": 3}',
    "line 1: 2 sigmas make 2 steps, but 3 steps were requested",
  );
});

Deno.test("a list of sigmas and a number of steps: the one closer to the clip counts", () => {
  const list = [1, 0.5];
  const over = (general: ClipValues, own: ClipValues) => overlay<ClipValues>(general, own);
  assertEquals(over({ steps: 9, seed: 1 }, { sigmas: list }), { seed: 1, sigmas: list });
  assertEquals(over({ sigmas: list }, { steps: 9 }), { steps: 9 });
  assertEquals(over({ sigmas: "wan" }, { steps: 9 }), { sigmas: "wan", steps: 9 });
  assertEquals(over({ steps: 9 }, { sigmas: "wan" }), { steps: 9, sigmas: "wan" });
  assertEquals(over({ sigmas: list }, { guidance: 2 }), { sigmas: list, guidance: 2 });
});

Deno.test("wrong lines are named", () => {
  refuses("a\n{x}", "p.txt line 2 is not a JSON object: write one per line");
  refuses("a cat", "p.jsonl line 1 is not a JSON object", "p.jsonl");
  refuses("[1]", "p.jsonl line 1 is not a JSON object", "p.jsonl");
  refuses('{"seed": 1}', 'line 1 has no "prompt"');
  refuses('{"prompt": "a", "seeed": 1}', 'line 1: unknown key "seeed": did you mean "seed"?');
  refuses('{"prompt": "a", "num_inference_steps": 9}', 'unknown key "num_inference_steps": did you mean "steps"?');
  refuses('{"prompt": "a", "seed": -1}', 'line 1: "seed" must be a whole number');
  refuses('{"prompt": "a", "frames": 30}', 'line 1: "frames" 30 does not fit');
  refuses('{"prompt": "a", "notes": "x"}', 'line 1: unknown key "notes"');
  refuses('{"prompt": "a", "preview": true}', 'unknown key "preview"');
  refuses('{"prompt": ["a"]}', '"prompt" must be text in quotes');
  refuses("\n# only this\n", "has no prompts");
});

Deno.test("a JSON array is no prompts file, however its lines break", () => {
  const array = '[{"prompt": "a"}, {"prompt": "b"}]';
  for (const text of [array, JSON.stringify(JSON.parse(array), null, 2), '["a", "b"]', `\uFEFF\n${array},`]) {
    refuses(text, "p.json is a JSON array, but JSONL was expected: write one object per line", "p.json");
  }
  assertEquals(parsePrompts("[small] a cat", "p.txt")[0]!.prompt, "[small] a cat");
});

Deno.test("a prompts file that cannot be read is one sentence", () =>
  inTempDir(async (dir) => {
    await assertRejects(() => readPrompts(`${dir}/none`), TilereelError, "there is no such file");
    await assertRejects(() => readPrompts(dir), TilereelError, "it is a folder");
    await Deno.writeFile(`${dir}/bytes`, new Uint8Array([0xff, 0xfe, 0]));
    await assertRejects(() => readPrompts(`${dir}/bytes`), TilereelError, "not UTF-8 text");
  }));

Deno.test("slugs are file names", () => {
  assertEquals(slug("A red circle, moving right!"), "a-red-circle-moving-right");
  assertEquals(slug("../../etc/passwd"), "etc-passwd");
  assertEquals(slug("红色 圆圈"), "红色-圆圈");
  assertEquals(slug("?!"), "clip");
  assert(slug("word ".repeat(100)).length <= 48);
  assert(slug("x".repeat(500)).length <= 48);
});

Deno.test("a batch goes into a folder, one clip a prompt or more, with the seed in its name", () =>
  inTempDir(async (dir) => {
    const prompts = `${dir}/p.txt`;
    const line = '{"prompt": "a dog", "seed": 5, "out": "d/dog.gif", "steps": 3, "count": 2}';
    await Deno.writeTextFile(prompts, `a cat\n${line}\na cat\n`);
    const options: PlanOptions = { prompts, out: `${dir}/clips`, values: { seed: 1, steps: 9 } };
    const clip = (place: string, prompt: string, seed: number, line: number, values: BatchValues) => ({
      ...{
        prompt,
        seed,
        values,
        out: `${dir}/clips/${place}`,
        taken: "keep" as const,
        where: `${prompts} line ${line}`,
      },
    });
    const dog = { seed: 5, steps: 3, count: 2 };
    assertEquals(await planClips(options), [
      clip("0001-a-cat-1.mp4", "a cat", 1, 1, { seed: 1, steps: 9 }),
      clip("d/dog-5.gif", "a dog", 5, 2, dog),
      clip("d/dog-6.gif", "a dog", 6, 2, dog),
      clip("0003-a-cat-1.mp4", "a cat", 1, 3, { seed: 1, steps: 9 }),
    ]);
    assertEquals([...Deno.readDirSync(dir)].map(({ name }) => name), ["p.txt"]);
    const folders = await planClips({ ...options, format: "frames" });
    assertEquals(folders[0]!.out, `${dir}/clips/0001-a-cat-1/`);
  }));

Deno.test("a batch without seeds has the same ones every time, of its prompts; -1 has others", () =>
  inTempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/p.txt`, "a\nb\na\n");
    const seeds = async (values: BatchValues) =>
      (await planClips({ prompts: `${dir}/p.txt`, out: dir, values })).map(({ seed }) => seed);
    const own = await seeds({});
    assertEquals(new Set(own).size, 3);
    assertEquals(await seeds({}), own);
    const random = await seeds({ seed: -1 });
    assert(random.every((seed, i) => seed !== own[i] && seed >= 0), String(random));
  }));

Deno.test("several clips of one prompt: seeds rise, past the largest they begin anew", async () => {
  const clips = await planClips({ prompt: "a cat", values: { seed: 2 ** 32 - 1, count: 2 }, out: "x", format: "gif" });
  assertEquals(clips.map(({ out, seed, taken }) => [out, seed, taken]), [
    ["x/a-cat-4294967295.gif", 4294967295, "keep"],
    ["x/a-cat-0.gif", 0, "keep"],
  ]);
});

Deno.test("JSONL: attention for each line, over that of the command line", () =>
  inTempDir(async (dir) => {
    const lines = [
      '{"prompt": "a", "attention": "vorta", "tau": 0.5}',
      '{"prompt": "b", "dense_layers": [0, 1]}',
      '{"prompt": "c"}',
    ];
    await Deno.writeTextFile(`${dir}/p.jsonl`, lines.join("\n"));
    const clips = await planClips({
      prompts: `${dir}/p.jsonl`,
      out: dir,
      values: { attention: "veda", keep: 0.5, steps: 3 },
    });
    assertEquals(clips.map(({ values }) => values), [
      { steps: 3, attention: "vorta", tau: 0.5 },
      { steps: 3, attention: "veda", keep: 0.5, "dense-layers": [0, 1] },
      { steps: 3, attention: "veda", keep: 0.5 },
    ]);
  }));

Deno.test("a plan that cannot work is refused before anything is loaded", () =>
  inTempDir(async (dir) => {
    const prompts = `${dir}/p.txt`;
    await Deno.writeTextFile(prompts, '{"prompt": "a", "out": "x.gif"}\n{"prompt": "b", "out": "./x.gif"}\n');
    const refused = (options: Omit<PlanOptions, "values">, message: string) =>
      assertRejects(() => planClips({ ...options, values: {} }), TilereelError, message);
    await refused({ prompts, out: dir }, "p.txt line 2 would both be written to");
    await refused({ prompts, out: "clip.mp4" }, "names one file, but --prompts makes several");
    await assertRejects(
      () => planClips({ prompt: "a", out: "clip.mp4", values: { count: 2 } }),
      TilereelError,
      "names one file, but --count makes several",
    );
    await refused({ prompts, prompt: "a" }, "either a prompt or --prompts");
    await refused({}, "no prompt");
    await refused({ prompt: "  " }, "the prompt is empty");
    await refused({ prompt: "a", out: `${dir}/a.webm` }, "does not say what to write");
    await refused({ prompt: "a", out: `${dir}/a.gif`, format: "mp4" }, "asks for gif, but --format asks for mp4");
    await refused({ prompt: "a", out: dir }, "exists and is not empty");
    await refused({ prompt: "a", out: dir }, `a file such as ${dir}/clip.mp4, or replace the frames with --overwrite`);
    await refused({ prompt: "a", out: dir, overwrite: true }, 'holds "p.txt", which is not part of a clip');
    await refused({ prompts: "a red circle" }, "a prompt itself is written without --prompts or -p");
    await refused({ prompt: "a", out: `${prompts}/a.mp4` }, "is a file, not a folder");
    await Deno.writeTextFile(prompts, '{"prompt": "a", "out": "x.webm"}\n');
    await refused({ prompts, out: dir }, "does not say what to write");
    for (const out of ["../x.gif", "a/../../x.gif", "/tmp/x.gif", "."]) {
      await Deno.writeTextFile(prompts, `{"prompt": "a", "out": "${out}"}\n`);
      await refused({ prompts, out: dir }, `line 1: "out" is ${JSON.stringify(out)}, which does not lie in ${dir}`);
    }
  }));

Deno.test("a file without a byte is no clip that was made", () =>
  inTempDir(async (dir) => {
    await Deno.writeTextFile(`${dir}/a.mp4`, "");
    await Deno.writeTextFile(`${dir}/b.mp4`, "clip");
    assertEquals(await Promise.all(["a.mp4", "b.mp4", "c.mp4"].map((name) => isMade(`${dir}/${name}`))), [
      false,
      true,
      false,
    ]);
  }));

Deno.test("one prompt: the seed is in the default name", async () => {
  const [clip] = await planClips({ prompt: "A cat!", values: { seed: 42 }, format: "gif" });
  assertEquals(clip!.out, "out/a-cat-42.gif");
  const [random] = await planClips({ prompt: "A cat!", values: {} });
  assertEquals(random!.out, `out/a-cat-${random!.seed}.mp4`);
});
