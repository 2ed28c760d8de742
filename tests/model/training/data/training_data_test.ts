import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { openModelFolder } from "../../../../model/checkpoint/model_folder.ts";
import type { SetOptions } from "../../../../model/training/data/cached_set.ts";
import { captionedClips } from "../../../../model/training/data/captioned_clips.ts";
import { encodedSet } from "../../../../model/training/data/encoded_set.ts";
import { LatentCache } from "../../../../model/training/data/latent_cache.ts";
import type { ClipValues } from "../../../../tools/program/clip/clip_options.ts";
import { clipShape } from "../../../../tools/program/clip/clip_settings.ts";
import { clipsOfPrompts } from "../../../../tools/program/clips_of_prompts.ts";
import { findClips } from "../../../../model/training/data/clip_folder.ts";
import { writeVideo } from "../../../../model/video/write_video.ts";
import { TilereelError } from "../../../../gpu/common/errors.ts";
import { openGpu } from "../../../../gpu/native/open.ts";
import type { Gpu } from "../../../../gpu/gpu.ts";
import { openCheckpoint } from "../../../../model/checkpoint/sharded.ts";
import { embeddedModelDir } from "../../../../model/embedded.ts";
import { VideoPipeline } from "../../../../model/pipeline.ts";
import type { OnProgress } from "../../../../model/progress.ts";
import { modelDigest } from "../../../../model/identity/digest.ts";
import { sampledSet, sampleSeed } from "../../../../model/training/data/sampled_set.ts";
import type { TrainingSample, TrainingSet } from "../../../../model/training/data/training_set.ts";
import { AutoencoderKLWan } from "../../../../model/wan/vae/autoencoder.ts";
import { readVaeConfig } from "../../../../model/wan/vae/config.ts";
import type { Video } from "../../../../model/video/video.ts";
import { movingShapes, psnr } from "../../../moving_shapes.ts";
import { inTempDir, listFiles } from "../../../process.ts";

const MODEL = embeddedModelDir();
const QUICK = { size: { width: 32, height: 48 }, frames: 5, steps: 2 };
const SMALL_CLIP = { size: { width: 64, height: 64 }, frames: 5 };

/** A file of prompts or a folder of clips, and what holds for all of them. */
type OpenOptions = Partial<Pick<SetOptions, "onProgress" | "signal">> & {
  readonly prompts?: string;
  readonly data?: string;
  readonly values?: ClipValues;
  readonly seed?: number;
};

/** What a test works with: a poisoned device, an empty folder, and a record of what was told. */
interface Bench {
  readonly gpu: Gpu;
  readonly dir: string;
  readonly notes: string[];
  readonly stages: Set<string>;
  /** Opens a set with its cache in the folder. Notes and stages are those of the last call. */
  open(options: OpenOptions): Promise<TrainingSet>;
  /** Samples in the cache, by file name. */
  cached(): string[];
}

function testData(name: string, run: (bench: Bench) => Promise<void>): void {
  const fn = () =>
    inTempDir(async (dir) => {
      const gpu = await openGpu();
      gpu.poison = true;
      gpu.placeholder; // made once and never freed
      const notes: string[] = [], stages = new Set<string>();
      const open = async ({ prompts, data, values = QUICK, seed = 1, ...more }: OpenOptions) => {
        notes.length = 0;
        stages.clear();
        const onNote = (note: string) => void notes.push(note);
        const onProgress: OnProgress = ({ stage }) => stages.add(stage);
        const { generation, family } = await openModelFolder(MODEL), shape = clipShape(values, generation);
        const sampled = prompts && await clipsOfPrompts(prompts, { generation, values, seed });
        const clips = sampled ? [] : await captionedClips(data!, shape, family, onNote);
        const cache = await LatentCache.open(join(dir, "out", "cache"), onNote);
        const options = { gpu, model: MODEL, cache, onProgress, ...more };
        return sampled ? await sampledSet(sampled, options) : await encodedSet(clips, options);
      };
      try {
        await run({ gpu, dir, notes, stages, open, cached: () => listFiles(join(dir, "out", "cache")) });
      } finally {
        gpu.close();
      }
    });
  Deno.test({ name, sanitizeOps: false, sanitizeResources: false, fn });
}

async function writePrompts(dir: string, ...lines: string[]): Promise<string> {
  const path = join(dir, "prompts.txt");
  await Deno.writeTextFile(path, lines.join("\n"));
  return path;
}

async function allSamples(set: TrainingSet): Promise<TrainingSample[]> {
  return await Promise.all(Array.from({ length: set.size }, (_, i) => set.sample(i)));
}

testData("prompts: samples are the latents that generate decodes, bit for bit, and its embeddings", async (bench) => {
  const { gpu, dir, open } = bench;
  const prompts = await writePrompts(
    dir,
    "a red circle",
    '{"prompt": "a blue square moving left", "negative": "a green ring", "guidance": 3, "seed": 9, "scheduler": "euler"}',
    '{"prompt": "a red circle", "guidance": 1, "size": "64x32", "flow-shift": 2, "steps": 1, "frames": 1}',
  );
  const { used } = gpu.memory;
  const set = await open({ prompts });
  assertEquals(gpu.memory.used, used, "what samples was let go");
  const samples = await allSamples(set);
  const pipeline = await VideoPipeline.load(MODEL, { gpu });
  try {
    const clip = { width: 32, height: 48, frames: 5, steps: 2 };
    const asked = [
      { ...clip, prompt: "a red circle", seed: sampleSeed(1, "a red circle", 0) },
      {
        ...clip,
        prompt: "a blue square moving left",
        negativePrompt: "a green ring",
        guidance: 3,
        seed: 9,
        scheduler: "euler" as const,
      },
      {
        prompt: "a red circle",
        guidance: 1,
        width: 64,
        height: 32,
        flowShift: 2,
        steps: 1,
        frames: 1,
        seed: sampleSeed(1, "a red circle", 1),
      },
    ];
    assertEquals(samples.length, asked.length);
    for (const [i, options] of asked.entries()) {
      let latents: Float32Array = new Float32Array(0);
      await pipeline.generate({ ...options, onStep: async (tensor) => void (latents = await gpu.read(tensor)) });
      const { shape, latents: sampled, conditioning: { text } } = samples[i]!;
      assertEquals(shape, [1, 16, (options.frames - 1) / 4 + 1, options.height / 8, options.width / 8]);
      assertEquals(sampled, latents, options.prompt);
      const [encoded] = await pipeline.encodePrompts([options.prompt]);
      assertEquals(text, { data: await gpu.read(encoded!.text), shape: [1, 32, 128] });
      gpu.release(encoded!.text);
    }
    assertNotEquals(asked[0]!.seed, asked[2]!.seed);
  } finally {
    pipeline.close();
  }
});

testData("prompts: a second run reads what the first has made, and loads no model", async (bench) => {
  const { dir, open, stages, cached } = bench;
  const prompts = await writePrompts(dir, "a red circle", "a blue ring");
  const first = await allSamples(await open({ prompts }));
  assert(stages.has("make latents") && stages.has("load transformer"), [...stages].join());
  const files = cached();
  const times = files.map((file) => Deno.statSync(join(dir, "out", "cache", file)).mtime);
  const second = await allSamples(await open({ prompts }));
  assertEquals([...stages], ["check latents"]);
  assertEquals(second, first);
  assertEquals(cached(), files);
  assertEquals(files.map((file) => Deno.statSync(join(dir, "out", "cache", file)).mtime), times);
});

testData("prompts: what makes a sample another one makes it anew; the others stay", async (bench) => {
  const { dir, open, cached } = bench;
  const values = { ...QUICK, steps: 1 };
  await open({ prompts: await writePrompts(dir, "a red circle"), values });
  assertEquals(cached().length, 1);
  const changes: OpenOptions[] = [
    { seed: 2 },
    { values: { ...values, size: { width: 32, height: 32 } } },
    { values: { ...values, frames: 1 } },
    { values: { ...values, steps: 2 } },
    { values: { ...values, guidance: 2 } },
    { values: { ...values, negative: "a square" } },
    { values: { ...values, scheduler: "euler" } },
    { values: { ...values, "flow-shift": 7 } },
  ];
  for (const [i, change] of changes.entries()) {
    await open({ prompts: join(dir, "prompts.txt"), values, ...change });
    assertEquals(cached().length, i + 2, JSON.stringify(change));
  }
  // A prompt before it takes nothing from it, not even its seed.
  const set = await open({ prompts: await writePrompts(dir, "a blue ring", "a red circle"), values });
  assertEquals([set.size, cached().length], [2, changes.length + 2]);
});

testData("cache: damaged files are made again, the same, with a note each", async (bench) => {
  const { dir, open, notes, cached } = bench;
  const prompts = await writePrompts(dir, "a red circle", "a blue ring", "a green cross", "a pink ring");
  const values = { ...QUICK, steps: 1 };
  const first = await allSamples(await open({ prompts, values }));
  const paths = cached().map((name) => join(dir, "out", "cache", name));
  const whole = paths.map((path) => Deno.readFileSync(path));
  const [cut, flipped, foreign] = paths as [string, string, string];
  await Deno.truncate(cut, 1000);
  await Deno.writeFile(flipped, whole[1]!.with(whole[1]!.length - 5, whole[1]!.at(-5)! ^ 1));
  await Deno.writeFile(foreign, whole[3]!);
  const second = await allSamples(await open({ prompts, values }));
  assertEquals(notes.length, 3, notes.join("\n"));
  for (const path of [cut, flipped, foreign]) assert(notes.some((note) => note.includes(path)), path);
  assert(notes.every((note) => note.endsWith("this sample is made again")), notes.join("\n"));
  assertEquals(second, first);
  assertEquals(paths.map((path) => Deno.readFileSync(path)), whole);

  const set = await open({ prompts, values });
  assertEquals(notes, []);
  await Deno.remove(cut);
  await Deno.truncate(flipped, 10);
  const broken = (await Promise.allSettled([0, 1, 2, 3].map((i) => set.sample(i))))
    .filter((result) => result.status === "rejected");
  assertEquals(broken.length, 2);
  assert(broken.every(({ reason }) => reason instanceof TilereelError));
});

testData("making samples can be broken off, and goes on where it was", async (bench) => {
  const { gpu, dir, open, cached } = bench;
  const prompts = await writePrompts(dir, "a red circle", "a blue ring", "a green cross");
  const values = { ...QUICK, steps: 1 };
  const controller = new AbortController();
  const { used } = gpu.memory;
  const run = open({
    prompts,
    values,
    signal: controller.signal,
    onProgress: ({ stage, done }) => {
      if (stage === "make latents" && done === 1) controller.abort(new Error("stop"));
    },
  });
  await assertRejects(() => run, Error, "stop");
  assertEquals([cached().length, gpu.memory.used], [1, used]);
  const totals: number[] = [];
  await open({
    prompts,
    values,
    onProgress: ({ stage, total }) => void (stage === "make latents" && totals.push(total)),
  });
  assertEquals([cached().length, new Set(totals)], [3, new Set([2])]);
});

testData("clips: a frame folder, a GIF and an MP4 encode to latents that decode to them", async (bench) => {
  const { gpu, dir, open, stages, cached } = bench;
  const data = join(dir, "clips");
  const video = movingCircle();
  for (const name of ["folder/", "animated.gif", "film.mp4"]) {
    await writeVideo(join(data, name), video);
    await Deno.writeTextFile(join(data, `${name.split(/[./]/)[0]}.txt`), `the ${name}\n`);
  }
  const { used } = gpu.memory;
  const values = SMALL_CLIP;
  const set = await open({ data, values });
  assertEquals([set.size, gpu.memory.used], [3, used]);
  assert(!stages.has("load transformer"));
  const samples = await allSamples(set);
  const names = ["animated.gif", "film.mp4", "folder/"];

  using source = await openCheckpoint(join(MODEL, "vae"), "diffusion_pytorch_model");
  const vae = await AutoencoderKLWan.load(gpu, source, await readVaeConfig(join(MODEL, "vae", "config.json")));
  for (const [i, { latents, shape }] of samples.entries()) {
    assertEquals(shape, [1, 16, 2, 8, 8]);
    const normalized = gpu.upload(latents, shape), denormalized = vae.denormalize(normalized);
    const quality = psnr(await vae.decodeRgb8(denormalized), video.data);
    assert(quality > 25, `${names[i]}: ${quality.toFixed(1)} dB`);
    for (const tensor of [normalized, denormalized]) gpu.release(tensor);
  }
  vae[Symbol.dispose]();

  // A frame folder is exact: its latents are the mean of what the encoder gives, normalized by the model's numbers.
  const direct = await encodedMean(gpu, video.data);
  assertEquals(samples[2]!.latents, direct);

  const pipeline = await VideoPipeline.load(MODEL, { gpu });
  const encoded = await pipeline.encodePrompts(names.map((name) => `the ${name}`));
  pipeline.close();
  for (const [i, { conditioning: { text } }] of samples.entries()) {
    assertEquals(text, { data: await gpu.read(encoded[i]!.text), shape: [1, 32, 128] });
    gpu.release(encoded[i]!.text);
  }

  const files = cached();
  const again = await open({ data, values });
  assertEquals(await allSamples(again), samples);
  assertEquals([[...stages], cached()], [["check latents"], files]);
  // Another caption, another age of the file, another size: each is another sample.
  await Deno.writeTextFile(join(data, "film.txt"), "another caption");
  const captioned = await open({ data, values });
  assertEquals(cached().length, 4);
  await Deno.utime(join(data, "animated.gif"), 1, 1);
  const touched = await open({ data, values });
  assertEquals(cached().length, 5);
  await open({ data, values: { ...values, size: { width: 32, height: 32 } } });
  assertEquals(cached().length, 8);
  // The digest is of what the samples are, not of where and when they were made.
  const digests = [again, captioned, touched].map(({ digest }) => digest);
  assertEquals(new Set(digests).size, 2, digests.join());
  assertEquals([digests[0] === digests[1], digests[1] === digests[2]], [false, true]);
});

/** What the demo model draws: a red circle that moves right over black, 64x64 pixels and 5 frames. */
function movingCircle(): Video {
  const data = new Uint8Array(5 * 64 * 64 * 3);
  for (let i = 0; i < 5 * 64 * 64; i++) {
    const frame = Math.floor(i / 4096), x = i % 64, y = Math.floor(i / 64) % 64;
    const cover = Math.min(1, Math.max(0, 15.5 - Math.hypot(x - 20 - 4 * frame, y - 28)));
    data.set([230 * cover, 30 * cover, 30 * cover], i * 3);
  }
  return { width: 64, height: 64, frames: 5, fps: 16, data };
}

/** Normalized latents of a clip of 64x64 pixels and 5 frames, worked out beside the code under test. */
async function encodedMean(gpu: Gpu, rgb: Uint8Array): Promise<Float32Array> {
  using source = await openCheckpoint(join(MODEL, "vae"), "diffusion_pytorch_model");
  const config = await readVaeConfig(join(MODEL, "vae", "config.json"));
  const vae = await AutoencoderKLWan.load(gpu, source, config);
  const pixels = rgb.length / 3;
  const planar = Float32Array.from({ length: rgb.length }, (_, i) => {
    return rgb[i % pixels * 3 + Math.floor(i / pixels)]! / 127.5 - 1;
  });
  const clip = gpu.upload(planar, [1, 3, 5, 64, 64]);
  const { mean, logvar } = await vae.encode(clip);
  const normalized = vae.normalize(mean);
  const latents = await gpu.read(normalized), raw = await gpu.read(mean);
  const each = raw.length / config.zDim;
  const error = Math.max(...latents.map((z, i) => {
    const channel = Math.floor(i / each);
    return Math.abs(z - (raw[i]! - config.latentsMean[channel]!) / config.latentsStd[channel]!);
  }));
  assert(error < 1e-5, `${error}`);
  for (const tensor of [clip, mean, logvar, normalized]) gpu.release(tensor);
  vae[Symbol.dispose]();
  return latents;
}

testData("clips: those that are too short are left out with a note; none left is an error", async (bench) => {
  const { dir, open, notes } = bench;
  const data = join(dir, "clips");
  await writeVideo(join(data, "long.gif"), movingShapes(32, 32, 9));
  await writeVideo(join(data, "short.gif"), movingShapes(32, 32, 4));
  for (const name of ["long", "short"]) await Deno.writeTextFile(join(data, `${name}.txt`), "shapes");
  const values = { size: { width: 32, height: 32 }, frames: 5 };
  const set = await open({ data, values });
  assertEquals([set.size, (await set.sample(0)).shape], [1, [1, 16, 2, 4, 4]]);
  assertEquals(notes, [
    `${join(data, "short.gif")} is too short: it has 4 frames at 16 frames a second, but 5 are needed; it is left out`,
  ]);
  await assertRejects(
    () => open({ data, values: { ...values, frames: 13 } }),
    TilereelError,
    "no clip is long enough",
  );
  // At another rate it is long enough.
  assertEquals((await open({ data, values: { ...values, fps: 20 } })).size, 2);
});

testData("what is wrong with prompts and clips is said before anything is made", async (bench) => {
  const { dir, open } = bench;
  const refused = (options: OpenOptions, message: string) => assertRejects(() => open(options), TilereelError, message);
  await refused({ prompts: join(dir, "none.txt") }, "there is no such file");
  await refused({ data: join(dir, "none") }, "there is no such folder");
  await refused({ data: dir, values: { frames: 6 } }, "the nearest that fit are 5 and 9");
  await refused({ data: dir }, "holds no clips");
  assertEquals(listFiles(dir), []);
});

Deno.test("models: a copy has the same digest, other files have another", () =>
  inTempDir(async (dir) => {
    const part = join(dir, "part"), large = join(part, "weights.bin"), small = join(part, "config.json");
    const bytes = Uint8Array.from({ length: 3_000_000 }, (_, i) => i * 31 >> 3);
    const digest = () => modelDigest([part]);
    const write = async () => {
      await Deno.mkdir(part, { recursive: true });
      await Deno.writeFile(large, bytes);
      await Deno.writeTextFile(small, "{}");
    };
    await write();
    const first = await digest();
    await Deno.remove(part, { recursive: true });
    await write();
    assertEquals(await digest(), first);
    const changes = {
      "a config": () => Deno.writeTextFile(small, "[]"),
      "a name": () => Deno.rename(small, `${small}5`),
      "a length": () => Deno.writeFile(large, bytes.subarray(1)),
      "a layer": () => Deno.writeFile(large, bytes.map((byte, i) => i > 1e6 && i < 1.1e6 ? byte ^ 1 : byte)),
    };
    for (const [what, change] of Object.entries(changes)) {
      await change();
      assertNotEquals(await digest(), first, what);
      await Deno.remove(part, { recursive: true });
      await write();
    }
  }));

Deno.test("captions: beside the clips, or listed", () =>
  inTempDir(async (dir) => {
    const write = (name: string, text = "") => Deno.writeTextFile(join(dir, name), text);
    const refused = (message: string) => assertRejects(() => findClips(dir), TilereelError, message);
    await write("b.mp4");
    await write("notes.md");
    await write(".hidden.mp4");
    await Deno.mkdir(join(dir, "empty"));
    await refused(`${join(dir, "b.mp4")} has no caption: write what it shows into ${join(dir, "b.txt")}`);
    await write("b.txt", " \n");
    await refused(`${join(dir, "b.txt")} is empty`);
    await Deno.writeFile(join(dir, "b.txt"), new Uint8Array([0xff, 0xfe, 0x00]));
    await refused("is not UTF-8 text");
    await write("b.txt", "  a bee \n");
    await Deno.mkdir(join(dir, "a.cut"));
    await write("a.cut/1.png");
    await refused(`${join(dir, "a.cut")} has no caption: write what it shows into ${join(dir, "a.cut.txt")}`);
    await write("a.cut.txt", "an ant");
    assertEquals(await findClips(dir), [
      { path: join(dir, "a.cut"), caption: "an ant" },
      { path: join(dir, "b.mp4"), caption: "a bee" },
    ]);

    await write(
      "metadata.jsonl",
      '{"file": "b.mp4", "caption": "one"}\n\n{"text": "two", "file_name": "a.cut", "n": 3}\n',
    );
    assertEquals(await findClips(dir), [
      { path: join(dir, "b.mp4"), caption: "one" },
      { path: join(dir, "a.cut"), caption: "two" },
    ]);
    const line2 = `${join(dir, "metadata.jsonl")} line 2`;
    for (
      const [line, message] of [
        ["{", `${line2} is not a JSON object`],
        ["[]", `${line2} is not a JSON object`],
        ['{"file": "b.mp4"}', `${line2} has no "caption"`],
        ['{"file": "b.mp4", "caption": ""}', `${line2} has no "caption"`],
        ['{"caption": "x"}', `${line2} has no "file"`],
        ['{"file": "c.mp4", "caption": "x"}', `${line2}: there is no clip ${join(dir, "c.mp4")}`],
      ] as const
    ) {
      await write("metadata.jsonl", `{"file": "b.mp4", "caption": "one"}\n${line}`);
      await refused(message);
    }
    await write("metadata.jsonl", "\n");
    await refused("holds no clips");
  }));
