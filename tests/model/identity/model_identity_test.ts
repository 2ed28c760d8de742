import { assertEquals, assertNotEquals } from "@std/assert";
import { join } from "node:path";
import { planRun } from "../../../cli/generate/plan.ts";
import { dataIdentity } from "../../../cli/training/router/data.ts";
import type { Gpu } from "../../../gpu/gpu.ts";
import { openModelFolder } from "../../../model/checkpoint/model_folder.ts";
import { modelKey } from "../../../model/identity/model_identity.ts";
import { encodedSet } from "../../../model/training/data/encoded_set.ts";
import type { LatentCache, Recipe } from "../../../model/training/data/latent_cache.ts";
import { sampledSet } from "../../../model/training/data/sampled_set.ts";
import type { TrainingSet } from "../../../model/training/data/training_set.ts";
import type { WeightDtypeChoice } from "../../../model/weights/weight_dtype.ts";
import { samplingIdentity } from "../../../tools/program/sampling_options.ts";
import { inTempDir, MODEL } from "../../process.ts";

const PARTS = ["transformer", "vae", "text_encoder", "tokenizer"] as const;
const CLIP = { prompt: "a cat", negativePrompt: "", width: 32, height: 32, frames: 5, steps: 1, guidance: 1, seed: 1 };

/** What a model is used with. */
interface Use {
  readonly model: string;
  readonly textEncoder?: string;
  readonly weightDtype?: WeightDtypeChoice;
}

/** What each cache of results keys on. */
async function identities({ model, textEncoder, weightDtype }: Use): Promise<Record<string, string>> {
  const gpu = { settings: { precision: "f32" } } as Gpu, folder = await openModelFolder(model);
  const recipes: Recipe[] = [];
  const cache = { has: (recipe: Recipe) => recipes.push(recipe), checksum: () => "" } as unknown as LatentCache;
  const making = { gpu, model, cache, variant: { textEncoder, weightDtype } };
  await sampledSet([CLIP], making);
  await encodedSet([{ caption: "a cat", origin: {}, read: () => Promise.resolve(undefined) }], making);
  const values = {
    model,
    ...textEncoder !== undefined && { "text-encoder": textEncoder },
    ...weightDtype !== undefined && { "weight-dtype": weightDtype },
  };
  const run = await planRun({ ...values, out: join(model, "clip.mp4") }, "a cat");
  const { model: _, textEncoder: __, seed: ___, ...record } = run.clips[0]!.record;
  const plan = { values, clips: [CLIP] };
  const data = { digest: "", size: 1 } as TrainingSet;
  return {
    "the model's key": await modelKey(folder, { textEncoder, weightDtype }),
    "clips and comparisons": JSON.stringify(record),
    "sampled latents": JSON.stringify(recipes[0]),
    "encoded latents": JSON.stringify(recipes[1]),
    "training of tiles": JSON.stringify(await samplingIdentity(plan)),
    "training of a router": JSON.stringify(await dataIdentity({ ...values, data: model }, folder, data)),
  };
}

/** The demo model's transformer and VAE, with other parts that nothing opens. */
async function writeModel(dir: string, changed?: typeof PARTS[number]): Promise<string> {
  await Deno.mkdir(join(dir, "scheduler"), { recursive: true });
  for (const file of ["model_index.json", "scheduler/scheduler_config.json"]) {
    await Deno.copyFile(join(MODEL, file), join(dir, file));
  }
  for (const part of PARTS) {
    await Deno.mkdir(join(dir, part));
    if (part === "transformer" || part === "vae") {
      for (const { name } of Deno.readDirSync(join(MODEL, part))) {
        await Deno.copyFile(join(MODEL, part, name), join(dir, part, name));
      }
    }
    await Deno.writeTextFile(join(dir, part, "weights"), part === changed ? "others" : part);
  }
  return dir;
}

Deno.test("another part, text encoder or format is another model to every cache; a copy is the same", () =>
  inTempDir(async (dir) => {
    const model = await writeModel(join(dir, "model")), own = await identities({ model });
    const onnx = join(dir, "a.onnx"), other = join(dir, "b.onnx"), copy = join(dir, "c.onnx");
    for (const [file, text] of [[onnx, "1"], [other, "2"], [copy, "1"]] as const) await Deno.writeTextFile(file, text);
    assertEquals(await identities({ model: await writeModel(join(dir, "copy")) }), own);
    assertEquals(await identities({ model, weightDtype: "stored" }), own);

    const uses: [what: string, use: Use][] = [
      ["ONNX", { model, textEncoder: onnx }],
      ["another ONNX file", { model, textEncoder: other }],
      ["bf16", { model, weightDtype: "bf16" }],
      ["int8", { model, weightDtype: "int8" }],
    ];
    for (const part of PARTS) uses.push([part, { model: await writeModel(join(dir, part), part) }]);
    const seen = [own];
    for (const [what, use] of uses) {
      const now = await identities(use);
      for (const before of seen) for (const key in now) assertNotEquals(now[key], before[key], `${what}: ${key}`);
      seen.push(now);
    }
    assertEquals(await identities({ model, textEncoder: copy }), seen[1]);
  }));
