import { openModelFolder } from "../../../model/checkpoint/model_folder.ts";
import { sizeNote, trainedFlowShift } from "../../../model/checkpoint/trained_sizes.ts";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { assertEquals, assertRejects } from "@std/assert";

const DEMO = new URL("../../../model/demo", import.meta.url).pathname;

const INDEX = {
  _class_name: "WanPipeline",
  transformer: ["diffusers", "WanTransformer3DModel"],
  vae: ["diffusers", "AutoencoderKLWan"],
  scheduler: ["diffusers", "UniPCMultistepScheduler"],
  text_encoder: ["transformers", "UMT5EncoderModel"],
  tokenizer: ["transformers", "T5TokenizerFast"],
};

/** Runs `test` in a folder with empty parts and this model_index.json, gone afterwards. */
async function inModel(index: unknown, test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    for (const part of ["transformer", "vae", "scheduler"]) await Deno.mkdir(`${folder}/${part}`);
    await Deno.writeTextFile(`${folder}/model_index.json`, JSON.stringify(index));
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("the demo model", async () => {
  const model = await openModelFolder(DEMO);
  assertEquals(model.path, DEMO);
  assertEquals(model.generation, {
    width: 128,
    height: 128,
    frames: 29,
    fps: 16,
    steps: 20,
    guidance: 4,
    textTokens: 32,
    trained: [
      { width: 128, height: 128, frames: 29 },
      { width: 256, height: 256, frames: 29 },
      { width: 512, height: 512, frames: 61, flowShift: 5 },
    ],
  });
  for (const part of ["transformer", "vae", "scheduler", "text_encoder", "tokenizer"] as const) {
    assertEquals((await model.component(part)).path, `${DEMO}/${part}`);
  }
  assertEquals(model.className("scheduler"), "UniPCMultistepScheduler");
});

Deno.test("without generation.json Wan's defaults hold, with it those it lacks", () =>
  inModel(INDEX, async (folder) => {
    const wan = { width: 832, height: 480, frames: 81, fps: 16, steps: 50, guidance: 5, textTokens: 512 };
    assertEquals((await openModelFolder(folder)).generation, wan);
    await Deno.writeTextFile(`${folder}/generation.json`, '{"fps": 23.976, "steps": 8}');
    assertEquals((await openModelFolder(folder)).generation, { ...wan, fps: 23.976, steps: 8 });
  }));

Deno.test("clips of sizes that a model was not trained on are noted, where it says which those are", () => {
  const size = (width: number, height: number, frames: number) => ({ width, height, frames });
  const trained = [size(128, 128, 29), size(256, 256, 29), size(128, 128, 1)];
  assertEquals(sizeNote(undefined, size(64, 64, 5)), undefined);
  assertEquals(sizeNote(trained, size(256, 256, 29)), undefined);
  assertEquals(
    sizeNote(trained, size(256, 128, 29)),
    "the model was trained on clips of 128x128 or 256x256 with 29 frames and 128x128 with 1 frame, so one of 256x128 " +
      "with 29 frames may come out worse",
  );
});

Deno.test("a clip has the flow shift of the nearest size that a model was trained on", () => {
  const size = (width: number, height: number, frames: number) => ({ width, height, frames });
  const trained = [size(128, 128, 29), { ...size(512, 512, 61), flowShift: 5 }, {
    ...size(832, 480, 81),
    flowShift: 7,
  }];
  assertEquals(trainedFlowShift(trained, size(512, 512, 61)), 5);
  assertEquals(trainedFlowShift(trained, size(480, 512, 57)), 5);
  assertEquals(trainedFlowShift(trained, size(1280, 720, 81)), 7);
  // Sides count more than frames, also for a single picture.
  const [, large] = trained, small = { ...size(256, 256, 29), flowShift: 3 };
  for (const frames of [1, 5, 17, 29, 61, 121]) {
    assertEquals(trainedFlowShift([small, large!], size(512, 512, frames)), 5);
    assertEquals(trainedFlowShift([small, large!], size(256, 256, frames)), 3);
  }
  // Of those with the same sides, frames decide.
  assertEquals(trainedFlowShift([{ ...size(512, 512, 5), flowShift: 4 }, large!], size(512, 512, 17)), 4);
  assertEquals(trainedFlowShift(trained, size(160, 128, 5)), undefined);
  assertEquals(trainedFlowShift(undefined, size(512, 512, 61)), undefined);
});

Deno.test("a distilled model keeps the flow shift of its preset, whatever generation.json has for a size", async () => {
  for (const [_class_name, flowShift] of [["WanPipeline", 5], ["WanDMDPipeline", undefined]] as const) {
    await inModel({ ...INDEX, _class_name }, async (folder) => {
      const size = { width: 832, height: 480, frames: 81 };
      await Deno.writeTextFile(
        `${folder}/generation.json`,
        JSON.stringify({ trained: [{ ...size, flow_shift: 5 }] }),
      );
      const { trained } = (await openModelFolder(folder)).generation;
      assertEquals([trained?.length, trainedFlowShift(trained, size)], [1, flowShift]);
    });
  }
});

Deno.test("a generation.json that is wrong is refused", () =>
  inModel(INDEX, async (folder) => {
    const cases = [
      ['{"size": 3}', '"size" is not known; the keys are width, height'],
      ['{"width": "832"}', 'width is "832", but a whole number of at least 1'],
      ['{"frames": 0}', "frames is 0"],
      ['{"fps": 0}', "fps is 0, but a number above 0"],
      ['{"guidance": -1}', "guidance is -1, but a number of at least 0"],
      ['{"trained": {}}', "trained is {}, but a list such as"],
      ['{"trained": [{"width": 16, "height": 16}]}', "trained[0] is"],
      ['{"trained": [{"width": 16, "height": 16, "frames": 5, "shift": 5}]}', "trained[0] is"],
      [
        '{"trained": [{"width": 16, "height": 16, "frames": 5, "flow_shift": 0}]}',
        "flow_shift is 0, but a number above 0",
      ],
      ['{"trained": [{"width": 16, "height": 16, "frames": 2}]}', "trained[0]: frames 2 does not fit"],
      ["[]", "does not hold a JSON object"],
      ["{", "is not valid JSON"],
    ] as const;
    for (const [text, message] of cases) {
      await Deno.writeTextFile(`${folder}/generation.json`, text);
      await assertRejects(() => openModelFolder(folder), TilereelError, message);
    }
  }));

Deno.test("what is no folder or holds no model is refused", async () => {
  await assertRejects(() => openModelFolder("/nowhere/at/all"), TilereelError, "/nowhere/at/all does not exist");
  const file = await Deno.makeTempFile();
  await assertRejects(() => openModelFolder(file), TilereelError, "is empty, but the folder of a video model");
  await Deno.remove(file);
  const folder = await Deno.makeTempDir();
  await assertRejects(() => openModelFolder(folder), TilereelError, "holds no model: a folder in the diffusers layout");
  await Deno.remove(folder);
});

Deno.test("parts of other kinds are refused by name", async () => {
  const changes: [Record<string, unknown>, string][] = [
    [{ vae: ["diffusers", "AutoencoderKL"] }, "the vae is a AutoencoderKL, which is not supported"],
    [{ scheduler: ["diffusers", "DDIMScheduler"] }, "UniPCMultistepScheduler or FlowMatchEulerDiscreteScheduler was"],
    [{ transformer: "WanTransformer3DModel" }, "but [library, class] was expected"],
    [{ transformer: [null, null] }, "has no folder transformer"],
  ];
  for (const [change, message] of changes) {
    await inModel({ ...INDEX, ...change }, async (folder) => {
      await assertRejects(() => openModelFolder(folder), TilereelError, message);
    });
  }
  await inModel(
    { ...INDEX, transformer_2: [null, null], boundary_ratio: null, expand_timesteps: false },
    async (path) => {
      await openModelFolder(path);
    },
  );
});

Deno.test("a missing part is named; a text encoder is not missed until asked for", () =>
  inModel(INDEX, async (folder) => {
    const model = await openModelFolder(folder);
    await assertRejects(() => model.component("text_encoder"), TilereelError, "has no folder text_encoder");
    await Deno.remove(`${folder}/vae`);
    await assertRejects(() => openModelFolder(folder), TilereelError, "has no folder vae");
  }));
