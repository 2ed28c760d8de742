import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { type BatchValues, overlaid } from "../../../tools/program/clip/batch_options.ts";
import { clipText, repeatLine } from "../../../cli/info/clip_description.ts";
import { fileIdentity, sharedName } from "../../../model/identity/file_identity.ts";
import { differences } from "../../../cli/generate/clip_record.ts";
import { likeNotes, readLike } from "../../../cli/generate/like.ts";
import { differentNotes, summaryLines } from "../../../cli/generate/summary.ts";
import { shellQuoted } from "../../../tools/program/command_line.ts";
import { writeVideo } from "../../../model/video/write_video.ts";
import { join } from "node:path";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { inTempDir } from "../../process.ts";

const RECORD = { version: "1", prompt: "a cat", width: 32, height: 32, seed: 7, attention: "full", model: "embedded" };

Deno.test("what was otherwise when a clip was made is told by its options, three at most", () => {
  assertEquals(differences(RECORD, { ...RECORD, version: "2", adapter: "another", density: 0.5 }), undefined);
  assertEquals(differences(RECORD, { ...RECORD, seed: 8 }), "seed 7, now 8");
  assertEquals(differences(RECORD, { ...RECORD, negativePrompt: "blur" }), 'negative none, now "blur"');
  // Options of another kind of attention follow from it.
  const vorta = { ...RECORD, attention: "vorta", router: "r.pt", routerDigest: "a", tau: 0.3 };
  assertEquals(differences(RECORD, vorta), 'attention "full", now "vorta"');
  assertEquals(differences(vorta, { ...vorta, tau: 0.5 }), "tau 0.3, now 0.5");
  // Of a file the digest counts, not the name.
  assertEquals(differences(vorta, { ...vorta, router: "moved.pt" }), undefined);
  assertEquals(differences(vorta, { ...vorta, routerDigest: "b" }), 'router "r.pt" with other contents');
  assertEquals(
    differences(RECORD, { ...RECORD, width: 64, height: 64, seed: 1, steps: 2, fps: 3 }),
    "width 32, now 64; height 32, now 64; seed 7, now 1; and 2 more",
  );
  const long = differences(RECORD, { ...RECORD, prompt: "x".repeat(500) })!;
  assert(long.length < 100, long);
});

Deno.test("clips that are left are told together where they differ alike", () => {
  const clip = (out: string, why: string, more = {}) => ({
    ...{ prompt: "a", seed: 1, values: {}, out, taken: "keep" as const, record: {}, found: undefined, why },
    ...more,
  });
  assertEquals(differentNotes([clip("a", "steps 1, now 2"), clip("b", "no record of how it was made")]), [
    "a was made with other settings (steps 1, now 2) and is left as it is; --overwrite replaces it",
    "b has no record of how it was made and is left as it is; --overwrite replaces it",
  ]);
  const [many] = differentNotes(["a", "b", "c", "d", "e"].map((out) => clip(out, "steps 1, now 2")));
  assert(many!.startsWith("a, b, c and 2 more were made with other settings (steps 1, now 2) and are left"), many);
  assertStringIncludes(
    differentNotes([clip("a", "seed 1, now 2", { instead: "a-2" })])[0]!,
    "so this clip is written to a-2",
  );
  assertEquals(
    summaryLines({ rendered: 1, made: 2, different: 0, failed: [{ out: "x.mp4", why: "no." }] }),
    "1 clip rendered, 2 already made and skipped, 1 failed:\n  x.mp4: no.",
  );
});

Deno.test("another kind of attention takes nothing of what was said of the one before", () => {
  const veda: BatchValues = { attention: "veda", keep: 0.5, steps: 3 };
  assertEquals(overlaid(veda, { keep: 0.2 }), { attention: "veda", keep: 0.2, steps: 3 });
  assertEquals(overlaid(veda, { attention: "full" }), { attention: "full", steps: 3 });
  assertEquals(overlaid(veda, { router: "r" }), { router: "r", steps: 3 });
  const both: BatchValues = { attention: "vorta", "full-branch": "veda", tau: 0.1 };
  assertEquals(overlaid(both, { tiles: "t" }), { ...both, tiles: "t" });
});

Deno.test("records name no folders of the user's", () => {
  assertEquals(sharedName("models/wan/"), "models/wan");
  assertEquals(sharedName("./router.pt"), "router.pt");
  for (const path of ["/home/alice/wan-1.3b", "/home/alice/wan-1.3b/", "../../alice/wan-1.3b"]) {
    assertEquals(sharedName(path), "wan-1.3b");
  }
});

Deno.test("the command line that repeats a clip is safe to paste", () => {
  const record = {
    ...RECORD,
    prompt: "it's a cat",
    flowShift: 3,
    negativePrompt: "-blur",
    model: "wan",
    router: "r.pt",
  };
  assertEquals(
    repeatLine(record),
    `tilereel generate 'it'\\''s a cat' --model wan --size 32x32 --seed 7 --attention full --flow-shift 3 ` +
      "--negative=-blur --router r.pt",
  );
  // A trained router is often called as the model's own.
  const router = { ...RECORD, router: "router.safetensors" };
  assert(repeatLine(router).endsWith("--router router.safetensors"));
  assertEquals(repeatLine(router, ["router"]).includes("--router"), false);
  assert(repeatLine({ ...RECORD, prompt: "-cat" }).startsWith("tilereel generate --prompt=-cat --size"));
  assertEquals(shellQuoted("a\x1b[31m'\\\nb"), "$'a\\u001b[31m\\'\\\\\\u000ab'");
});

Deno.test("info: the lines that repeat a clip write its format", async () => {
  const gif = await clipText("out/a.gif", RECORD), mp4 = await clipText("out/a.mp4", RECORD);
  assertEquals(gif.split("\n").filter((line) => line.endsWith(" --format gif")).length, 2, gif);
  assert(!mp4.includes("--format"), mp4);
});

Deno.test("--like: records of other versions, models and adapters are noted; what is no record is refused", () =>
  inTempDir(async (dir) => {
    const video = { width: 16, height: 16, frames: 1, fps: 1, data: new Uint8Array(16 * 16 * 3) };
    const like = async (record?: Readonly<Record<string, unknown>>) => {
      await writeVideo(`${dir}/a.png`, video, record ? { record } : {});
      return await readLike(`${dir}/a.png`, { model: undefined, given: {}, without: [] });
    };
    const refused = (record: Readonly<Record<string, unknown>> | undefined, message: string) =>
      assertRejects(() => like(record), TilereelError, message);
    await refused(undefined, "a.png has no record of how it was made");
    await refused({ ...RECORD, prompt: 3 }, "its record has no prompt");
    await refused({ ...RECORD, steps: "many" }, "a.png: its steps must be a whole number from 1 to 1000");
    await refused({ ...RECORD, model: "no-such-model" }, 'the model "no-such-model", which is not in this folder');
    await refused(
      { ...RECORD, attention: "vorta", router: "r.pt", routerDigest: "0" },
      'the router file "r.pt", which is not in this folder or has changed: name the file with --router FILE',
    );
    const read = await like({ ...RECORD, adapter: "A", source: "deno", precision: "f32", modelDigest: "1" });
    assertEquals(read.values, { size: { width: 32, height: 32 }, seed: 7, attention: "full" });
    assertEquals([read.prompt, read.model, read.options.precision], ["a cat", undefined, "f32"]);
    assertEquals(likeNotes(read, read.record), []);
    const notes = likeNotes(read, { ...read.record, version: "2", adapter: "B", modelDigest: "2" });
    assertEquals(notes.length, 3);
    assertStringIncludes(notes[0]!, 'was made by tilereel "1", and this is 2: the clip may differ');
  }));

Deno.test("a key of a record may name several files, in their order", () =>
  inTempDir(async (dir) => {
    const video = { width: 16, height: 16, frames: 1, fps: 1, data: new Uint8Array(16 * 16 * 3) };
    const files = ["b", "a"].map((name) => join(dir, name));
    for (const file of files) await Deno.writeTextFile(file, file);
    const identity = await fileIdentity("embeddings", files), record = { ...RECORD, ...identity };
    assertEquals(identity.embeddings, ["b", "a"]);
    const like = async (record: Readonly<Record<string, unknown>>) => {
      await writeVideo(`${dir}/a.png`, video, { record });
      return await readLike(`${dir}/a.png`, { model: undefined, given: {}, without: [] });
    };
    assertEquals((await like(record)).options, { embeddings: files });
    const loras = { ...RECORD, lora: ["b", "a"], loraStrength: ["0.8", "-1"] };
    assert(repeatLine(loras).endsWith(" --lora b:0.8 --lora a:-1"));
    assert(repeatLine({ ...RECORD, lora: "a", loraStrength: "1" }).endsWith(" --lora a:1"));
    assert(repeatLine(record).endsWith(" --embeddings b --embeddings a"));
    const swapped = { ...record, ...await fileIdentity("embeddings", files.toReversed()) };
    assertEquals(differences(record, swapped), 'embeddings ["b","a"], now ["a","b"]');
    await Deno.writeTextFile(files[1]!, "other");
    await assertRejects(() => like(record), TilereelError, 'the embeddings file "a", which is not in this folder');
  }));
