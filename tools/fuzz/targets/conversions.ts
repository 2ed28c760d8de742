import { dryGpu } from "../../../gpu/device/dry.ts";
import { openConversion } from "../../../model/convert/convert_model.ts";
import { CONVERT_FORMATS, type ConvertFormat } from "../../../model/convert/planned_part.ts";
import { memoryFolder } from "../../../model/files/memory.ts";
import { VideoPipeline } from "../../../model/pipeline.ts";
import type { Dice } from "../dice.ts";
import { type Files, fixtureFolder } from "../fixtures.ts";
import { mutateBytes } from "../mutate_bytes.ts";
import { mutateJson } from "../mutate_json.ts";
import { headerOf, mutateSafetensors, safetensorsBytes } from "../safetensors_bytes.ts";
import type { FuzzTarget } from "../target.ts";

const WEIGHTS = "diffusion_pytorch_model.safetensors", MEMORY = { memoryLimit: 2 ** 29 };
const CLIP = { prompt: "a red circle", width: 32, height: 32, frames: 5, steps: 2, seed: 1 };
const GENERATION = { width: 32, height: 32, frames: 5, fps: 16, steps: 2, guidance: 2, text_tokens: 16 };

const jsonBytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

async function model(name: "tiny_hunyuan_pipeline" | "tiny_wan_a14b_pipeline"): Promise<Files> {
  const files = Object.entries(await fixtureFolder(`tests/fixtures/${name}`));
  return Object.fromEntries(files.filter(([name]) => !/^reference|png$/.test(name)));
}

/** The weights of a part as a file that lies alone, with what its `config.json` says among its metadata. */
function looseFile(files: Files, part: string, as = part, stem = WEIGHTS): Uint8Array<ArrayBuffer> {
  const config = JSON.parse(new TextDecoder().decode(files[`${part}/config.json`]));
  const { header, data } = headerOf(files[`${part}/${stem}`]!);
  return safetensorsBytes(
    JSON.stringify({ ...header, __metadata__: { config: JSON.stringify({ [as]: config }) } }),
    data,
  );
}

/** A model in ComfyUI's folders. */
async function comfyModel(): Promise<Files> {
  const files = await model("tiny_hunyuan_pipeline"), stem = "model.safetensors";
  return {
    ...Object.fromEntries(Object.entries(files).filter(([name]) => name.startsWith("tokenizer"))),
    "models/diffusion_models/hunyuan_video_t2v.safetensors": looseFile(files, "transformer"),
    "models/vae/hunyuan_video_vae.safetensors": looseFile(files, "vae"),
    "models/text_encoders/llava_llama3.safetensors": looseFile(files, "text_encoder", "text_encoder", stem),
    "models/text_encoders/clip_l.safetensors": looseFile(files, "text_encoder_2", "text_encoder_2", stem),
    "generation.json": jsonBytes(GENERATION),
  };
}

/** A model in the folders of Wan's own repository, with a transformer in a shard. */
async function wansModel(): Promise<Files> {
  const files = await model("tiny_wan_a14b_pipeline"), shard = "diffusion_pytorch_model-00001-of-00001.safetensors";
  const expert = (folder: string, part: string) => {
    const weights = looseFile(files, part, "transformer");
    const weight_map = Object.fromEntries(Object.keys(headerOf(weights).header).map((name) => [name, shard]));
    delete weight_map.__metadata__;
    return {
      [`${folder}/${shard}`]: weights,
      [`${folder}/${WEIGHTS}.index.json`]: jsonBytes({ metadata: {}, weight_map }),
      [`${folder}/config.json`]: files[`${part}/config.json`]!,
    };
  };
  return {
    ...expert("high_noise_model", "transformer"),
    ...expert("low_noise_model", "transformer_2"),
    "Wan2.1_VAE.safetensors": looseFile(files, "vae"),
  };
}

/** The files with one or two of them changed, or, of loose ones, now and then in another place. */
function mutated(files: Files, dice: Dice, isLoose: boolean): Files {
  const changed = { ...files };
  for (let left = dice.once(4) ? 2 : 1; left > 0; left--) {
    const name = dice.of(Object.keys(files)), bytes = files[name]!;
    if (changed[name] !== bytes) continue;
    if (isLoose && dice.once(5)) move(changed, name, dice);
    else if (name.endsWith(".safetensors")) changed[name] = mutateSafetensors(bytes, dice);
    else if (dice.once(8)) changed[name] = mutateBytes(bytes, dice);
    else changed[name] = new TextEncoder().encode(mutateJson(JSON.parse(new TextDecoder().decode(bytes)), dice));
  }
  return changed;
}

/** Removes a file, renames it, has it twice, or puts what belongs to another in its place. */
function move(files: Files, name: string, dice: Dice): void {
  const bytes = files[name]!, other = dice.of(Object.keys(files));
  const places = ["a.safetensors", "models/vae/b.safetensors", "high_noise_model/model.safetensors", `${name}.gguf`];
  switch (dice.below(4)) {
    case 0:
      delete files[name];
      return;
    case 1:
      files[name] = files[other]!;
      return;
    case 2:
      delete files[name];
      files[dice.of(places)] = bytes;
      return;
    default:
      files[dice.of(places)] = bytes;
  }
}

/** Converts a model to a folder that is removed then. Numbers are rounded on a device that computes nothing. */
async function convert(files: Files, to: string, format: ConvertFormat): Promise<void> {
  using open = new DisposableStack();
  const gpu = open.adopt(dryGpu(MEMORY), (gpu) => gpu.close());
  const conversion = open.use(await openConversion(memoryFolder(files, "model"), { gpu, format }));
  await conversion.write(to, () => {});
  await Deno.remove(to, { recursive: true });
}

/** Makes a clip on a device that computes nothing. */
async function makeClip(files: Files): Promise<void> {
  using open = new DisposableStack();
  const gpu = open.adopt(dryGpu(MEMORY), (gpu) => gpu.close());
  const pipeline = await VideoPipeline.load(memoryFolder(files, "model"), { gpu });
  open.defer(() => pipeline.close());
  await pipeline.generate(CLIP);
}

async function withFile(name: string, bytes: Uint8Array<ArrayBuffer>, to: string): Promise<void> {
  await convert({ ...await model("tiny_wan_a14b_pipeline"), [name]: bytes }, to, "diffusers");
}

export const conversions: FuzzTarget = {
  reads: "models, to convert them",
  open: async (folder) => {
    const models = [await model("tiny_hunyuan_pipeline"), await model("tiny_wan_a14b_pipeline")];
    return async (dice) => {
      // Rounding takes most of the time.
      const format = dice.once(2) ? "diffusers" : dice.of(CONVERT_FORMATS);
      await convert(mutated(dice.of(models), dice, false), `${folder}/made`, format);
      const left = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
      if (left.length > 0) throw new Error(`it left ${left.join()}`);
    };
  },
  extremes: {
    "weights of no bytes": (folder) => withFile(`transformer/${WEIGHTS}`, new Uint8Array(0), `${folder}/made`),
    "a model_index.json nested 5000 deep": (folder) =>
      withFile(
        "model_index.json",
        new TextEncoder().encode(`{"a":${"[".repeat(5000)}${"]".repeat(5000)}}`),
        `${folder}/made`,
      ),
  },
};

export const loose: FuzzTarget = {
  reads: "models as loose files, up to a clip, and to convert them",
  open: async (folder) => {
    const comfy = await comfyModel(), wans = await wansModel();
    return async (dice) => {
      if (dice.once(2)) await makeClip(mutated(comfy, dice, true));
      else await convert(mutated(dice.once(2) ? comfy : wans, dice, true), `${folder}/made`, "diffusers");
    };
  },
  extremes: {
    "300 transformers": async (folder) => {
      const files = await wansModel(), weights = files["Wan2.1_VAE.safetensors"]!;
      const many = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`models/unet/${i}.safetensors`, weights]));
      await convert({ ...files, ...many }, `${folder}/made`, "diffusers");
    },
    "metadata of a megabyte": async (folder) => {
      const files = await wansModel(), { header, data } = headerOf(files["Wan2.1_VAE.safetensors"]!);
      const text = JSON.stringify({ ...header, __metadata__: { config: `{"vae":{"a":"${"x".repeat(1e6)}"}}` } });
      const broken = { ...files, "Wan2.1_VAE.safetensors": safetensorsBytes(text, data.subarray(1)) };
      await convert(broken, `${folder}/made`, "diffusers");
    },
  },
};
