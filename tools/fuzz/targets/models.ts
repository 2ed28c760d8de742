import { dryGpu } from "../../../gpu/device/dry.ts";
import { memoryFolder } from "../../../model/files/memory.ts";
import { VideoPipeline } from "../../../model/pipeline.ts";
import { type Files, fixtureFolder } from "../fixtures.ts";
import { mutateJson } from "../mutate_json.ts";
import type { FuzzTarget } from "../target.ts";

const GENERATION = { width: 32, height: 32, frames: 5, fps: 16, steps: 2, guidance: 2, text_tokens: 16 };
const CLIP = { prompt: "a red circle", width: 32, height: 32, frames: 5, steps: 2, seed: 1 };

async function tinyModel(): Promise<Files> {
  const files = await fixtureFolder("tests/fixtures/tiny_hunyuan_pipeline");
  return { ...files, "generation.json": new TextEncoder().encode(JSON.stringify(GENERATION)) };
}

/** Makes a clip on a device that computes nothing. */
async function make(files: Files): Promise<void> {
  using open = new DisposableStack();
  const gpu = dryGpu({ memoryLimit: 2 ** 29 });
  open.defer(() => gpu.close());
  const pipeline = await VideoPipeline.load(memoryFolder(files, "model"), { gpu });
  open.defer(() => pipeline.close());
  await pipeline.generate(CLIP);
}

async function withFile(name: string, change: (value: Record<string, unknown>) => void): Promise<void> {
  const files = await tinyModel(), value = JSON.parse(new TextDecoder().decode(files[name]));
  change(value);
  await make({ ...files, [name]: new TextEncoder().encode(JSON.stringify(value)) });
}

export const configs: FuzzTarget = {
  reads: "models' settings, up to a clip on a device that computes nothing",
  open: async () => {
    const tiny = await tinyModel(), demo = await fixtureFolder("model/demo");
    return async (dice) => {
      const files = dice.once(4) ? demo : tiny;
      const names = Object.keys(files).filter((name) => name.endsWith(".json") && !name.endsWith("tokenizer.json"));
      const changed = { ...files };
      for (let left = dice.once(4) ? 2 : 1; left > 0; left--) {
        const name = dice.of(names), text = mutateJson(JSON.parse(new TextDecoder().decode(files[name])), dice);
        changed[name] = new TextEncoder().encode(text);
      }
      await make(changed);
    };
  },
  extremes: {
    "2^53 - 1 text tokens": () => withFile("generation.json", (value) => value.text_tokens = 2 ** 53 - 1),
    "10^7 text tokens": () => withFile("generation.json", (value) => value.text_tokens = 1e7),
    "10^9 steps": () => withFile("generation.json", (value) => value.steps = 1e9),
    "10^9 timesteps": () => withFile("scheduler/scheduler_config.json", (value) => value.num_train_timesteps = 1e9),
    "10^9 layers": () => withFile("transformer/config.json", (value) => value.num_layers = 1e9),
    "10^7 layers": () => withFile("transformer/config.json", (value) => value.num_layers = 1e7),
    "10^7 frames in a patch": () => withFile("transformer/config.json", (value) => value.patch_size_t = 1e7),
    "a config.json of 400 MB": async () =>
      await make({ ...await tinyModel(), "transformer/config.json": new Uint8Array(4e8).fill(0x20) }),
    "a config.json nested 5000 deep": () =>
      withFile("vae/config.json", (value) => value.a = JSON.parse("[".repeat(5000) + "]".repeat(5000))),
    "a class name of a megabyte": () =>
      withFile("transformer/config.json", (value) => value._class_name = "x".repeat(1e6)),
    "a value of a megabyte": () => withFile("vae/config.json", (value) => value.scaling_factor = "x".repeat(1e6)),
  },
};
