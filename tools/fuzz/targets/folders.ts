import { dirname } from "node:path";
import { ClipStore, type Identity } from "../../../cli/compare/clip_store.ts";
import { readLike } from "../../../cli/generate/like.ts";
import { clipRecordOf, clipText } from "../../../cli/info/clip_description.ts";
import { LOG_FOLDER, LOG_FORMAT } from "../../../cli/shards/shard_log.ts";
import { readShards } from "../../../cli/status/shards.ts";
import { workText } from "../../../cli/status/text.ts";
import { describeModel } from "../../../cli/info/model_description.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { captionedClips } from "../../../model/training/data/captioned_clips.ts";
import { LatentCache } from "../../../model/training/data/latent_cache.ts";
import { recordText } from "../../../model/video/record_text.ts";
import { WAN } from "../../../model/wan/family.ts";
import { fixtureFolder } from "../fixtures.ts";
import { mutateBytes } from "../mutate_bytes.ts";
import { mutateJson } from "../mutate_json.ts";
import { headerOf, mutateSafetensors, safetensorsBytes } from "../safetensors_bytes.ts";
import type { FuzzTarget } from "../target.ts";
import { noise } from "./pictures.ts";

const RECORD = {
  ...{ version: "0.1.0", prompt: "a cat", width: 32, height: 32, frames: 5, fps: 16, steps: 2, guidance: 3, seed: 7 },
  ...{ scheduler: "unipc", sigmas: "wan", flowShift: 3, attention: "veda", keep: 0.3, denseLayers: [0, 1] },
  ...{ model: "embedded", lora: ["a.safetensors"], loraStrength: [1], quality: 80 },
};

export const records: FuzzTarget = {
  reads: "records of how a clip was made",
  open: async (folder) => {
    const path = `${folder}/clip`;
    await Deno.mkdir(path);
    return async (dice) => {
      const text = mutateJson(JSON.parse(recordText(RECORD)), dice);
      await Deno.writeTextFile(`${path}/clip.json`, text);
      await clipText(path, await clipRecordOf(path));
      await readLike(path, { model: undefined, given: {}, without: ["lora"] });
    };
  },
};

export const comparisons: FuzzTarget = {
  reads: "folders of comparisons",
  open: async (folder) => {
    const identity: Identity = { prompt: "a cat", seed: 7, steps: 2 }, video = noise(16, 16, 5);
    const figures = { seconds: { denoise: 1 }, timesteps: [1000], density: 1 };
    const store = await ClipStore.open(folder);
    const clip = await store.add("full", video, { identity, ...figures } as never, () => {});
    const base = `${folder}/${clip.folder}/${clip.name}`, valid = await Deno.readTextFile(`${base}.json`);
    const samples = await Deno.readFile(`${base}.rgb.gz`);
    return async (dice) => {
      const isRecord = !dice.once(4);
      await Deno.writeTextFile(`${base}.json`, isRecord ? mutateJson(JSON.parse(valid), dice) : valid);
      await Deno.writeFile(`${base}.rgb.gz`, isRecord ? samples : mutateBytes(samples, dice));
      const opened = await ClipStore.open(folder), found = opened.find(identity);
      if (found) await opened.samples(found);
    };
  },
};

export const status: FuzzTarget = {
  reads: "logs of shards",
  extremes: {
    "a log that is one text of ten million characters": async (folder) => {
      await Deno.mkdir(`${folder}/${LOG_FOLDER}`);
      await Deno.writeTextFile(`${folder}/${LOG_FOLDER}/a.json`, JSON.stringify("x".repeat(1e7)));
      const works = await readShards(folder);
      // As the command says it.
      if (works.length === 0) throw new TilereelError("there is no log of a shard");
      return works;
    },
  },
  open: async (folder) => {
    const logs = `${folder}/${LOG_FOLDER}`, path = `${logs}/0123abcd-1-of-2.json`;
    const state = {
      ...{
        format: LOG_FORMAT,
        shard: { index: 1, count: 2 },
        unit: "clip",
        total: 2,
        all: 4,
        files: ["a.mp4", "b.mp4"],
      },
      ...{ work: "0123abcd", commandLine: "tilereel generate", process: "01234567-1-2", host: "node", pid: 1 },
      ...{ started: 1, done: 1, made: 1, seconds: 1.5, current: "b.mp4", fraction: 0.5 },
      failed: [{ name: "b.mp4", why: "it failed" }],
    };
    await Deno.mkdir(logs);
    return async (dice) => {
      await Deno.writeTextFile(path, mutateJson(state, dice));
      const now = Date.now();
      for (const work of await readShards(folder, now)) workText(work, now / 1000);
    };
  },
};

export const dataset: FuzzTarget = {
  reads: "folders of training clips, and kept samples",
  extremes: {
    "a kept sample whose metadata replace its tensors": async (folder) => {
      const cache = await LatentCache.open(folder), recipe = { source: "clip" }, path = cache.pathOf(recipe);
      const text = { data: new Float32Array(12).fill(1), shape: [1, 3, 4] };
      await cache.write(recipe, { latents: new Float32Array(8), shape: [1, 2, 1, 2, 2], conditioning: { text } });
      const { header, data } = headerOf(await Deno.readFile(path));
      (header.__metadata__ as Record<string, string>).conditioning = '{"text":null}';
      await Deno.writeFile(path, safetensorsBytes(JSON.stringify(header), data));
      return await cache.read(recipe);
    },
    "a clip with a name of 20,000 characters": async (folder) => {
      const line = JSON.stringify({ file: "x".repeat(20_000), caption: "a cat" });
      await Deno.writeTextFile(`${folder}/metadata.jsonl`, line);
      return await captionedClips(folder, { width: 16, height: 16, frames: 5, fps: 16 }, WAN, () => {});
    },
  },
  open: async (folder) => {
    const line = '{"file": "a.gif", "caption": "a cat"}\n', listed = `${folder}/metadata.jsonl`;
    await Deno.writeFile(`${folder}/a.gif`, new Uint8Array(10));
    const cache = await LatentCache.open(`${folder}/cache`), recipe = { source: "clip" };
    const text = { data: new Float32Array(12).fill(1), shape: [1, 3, 4] };
    await cache.write(recipe, { latents: new Float32Array(8).fill(1), shape: [1, 2, 1, 2, 2], conditioning: { text } });
    const sample = await Deno.readFile(cache.pathOf(recipe)), shape = { width: 16, height: 16, frames: 5, fps: 16 };
    return async (dice) => {
      await Deno.writeFile(cache.pathOf(recipe), mutateSafetensors(sample, dice));
      await cache.has(recipe);
      const text = dice.once(2) ? mutateJson(JSON.parse(line), dice) : line + line;
      const bytes = new TextEncoder().encode(text);
      await Deno.writeFile(listed, dice.once(4) ? mutateBytes(bytes, dice) : bytes);
      await captionedClips(folder, shape, WAN, () => {});
    };
  },
};

export const info: FuzzTarget = {
  reads: "model folders, to describe them",
  open: async (folder) => {
    const files = await fixtureFolder("tests/fixtures/tiny_hunyuan_pipeline");
    delete files["reference.safetensors"];
    for (const [name, bytes] of Object.entries(files)) {
      await Deno.mkdir(dirname(`${folder}/${name}`), { recursive: true });
      await Deno.writeFile(`${folder}/${name}`, bytes);
    }
    return async (dice) => {
      const name = dice.of(Object.keys(files)), path = `${folder}/${name}`, bytes = files[name]!;
      const isJson = name.endsWith(".json"), parsed = isJson && JSON.parse(new TextDecoder().decode(bytes));
      const changed = isJson ? new TextEncoder().encode(mutateJson(parsed, dice)) : mutateSafetensors(bytes, dice);
      await Deno.writeFile(path, changed);
      try {
        await describeModel(folder, { f16: true, int8: false, dtype: "auto" });
      } finally {
        await Deno.writeFile(path, bytes);
      }
    };
  },
};
