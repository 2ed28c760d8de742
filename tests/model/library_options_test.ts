/** The library as plain JavaScript calls it: what types would have said, one sentence says. */
import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { join } from "node:path";
import { check, checkOptions, type Kind } from "../../gpu/common/check_options.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import * as tilereel from "../../mod.ts";
import { inTempDir, listFiles, MODEL } from "../process.ts";

/** What no type lets through. */
// deno-lint-ignore no-explicit-any
const library: any = tilereel;
const { openGpu, VideoPipeline, writeVideo, vedaAttention, vedaHeads, routedAttention, singleBranch } = library;

const CLIP = { prompt: "a", width: 32, height: 32, frames: 5, steps: 2, guidance: 1 };

/** The call must fail with one sentence that contains `message`. */
async function refused(call: () => unknown, message: string): Promise<void> {
  const error: unknown = await Promise.try(call).then(() => "nothing was refused", (error) => error);
  assert(error instanceof TilereelError, `${message}: ${error}`);
  assertStringIncludes(error.message, message);
  assert(!error.message.includes("\n"), error.message);
}

Deno.test("options by name and kind", () => {
  const count: Kind = { expected: "a number", fits: (value) => typeof value === "number" };
  const kinds = { count, name: count };
  checkOptions("f", { count: 1, name: undefined } as { count: number; name: number | undefined }, kinds);
  for (
    const [options, message] of [
      [null, "f takes an object of options, not null"],
      ["x", 'f takes an object of options, not "x"'],
      [[1], "f takes an object of options, not a list of 1"],
      [{}, "f needs the option count: a number"],
      [{ cuont: 1, count: 1 }, 'f has no option "cuont": did you mean count?'],
      [{ x: 1, count: 1 }, 'f has no option "x"; its options are count, name'],
      [{ toString: 1, count: 1 }, 'f has no option "toString"; its options'],
      [{ count: "1" }, 'f: count is "1", but a number was expected'],
      [{ count: Promise.resolve(1) }, "f: count is a Promise (await it), but a number was expected"],
      [{ count: null }, "f: count is null, but"],
      [{ count: {} }, "f: count is an object, but"],
      [{ count: new Map() }, "f: count is a Map, but"],
    ] as [{ count: number }, string][]
  ) assertThrows(() => checkOptions("f", options, kinds as never, ["count"]), TilereelError, message);
  assertThrows(() => check("x", "a\n", count), TilereelError, 'x is "a\\n", but a number was expected');
});

Deno.test("what needs no GPU", async () => {
  const video = { width: 1, height: 1, frames: 1, fps: 1, data: new Uint8Array(3) };
  const router = tilereel.Router.random({ layers: 1, heads: 1, dim: 4 }, 0), settings = tilereel.defaultSettings;
  for (
    const [call, message] of [
      [() => openGpu({ choice: 3 }), "openGpu: choice is 3, but a text was expected"],
      [() => openGpu("vulkan"), 'openGpu takes an object of options, not "vulkan"'],
      [() => openGpu({ precison: "f32" }), 'openGpu has no option "precison": did you mean precision?'],
      [
        () => openGpu({ precision: "f64" }),
        'openGpu: precision is "f64", but "auto", "f32", "f16" or "int8" was expected',
      ],
      [() => openGpu({ memoryLimit: "8GB" }), 'openGpu: memoryLimit is "8GB", but a number of bytes above 0'],
      [() => openGpu({ memoryLimit: NaN }), "openGpu: memoryLimit is NaN, but"],
      [() => openGpu({ tune: 1 }), "openGpu: tune is 1, but true or false or an object of options was expected"],
      [() => openGpu({ tune: { agian: true } }), 'openGpu: tune has no option "agian": did you mean again?'],
      [() => library.listAdapters(7), "listAdapters: choice is 7, but a text was expected"],
      [() => library.tuneKernels({}), "tuneKernels: gpu is an object, but a Gpu, as openGpu opens it, was expected"],
      [() => VideoPipeline.load(), "the model's folder is undefined, but a path was expected"],
      [() => VideoPipeline.load(MODEL), "VideoPipeline.load takes an object of options, not undefined"],
      [() => VideoPipeline.load(MODEL, {}), "VideoPipeline.load needs the option gpu"],
      [
        () => VideoPipeline.load(MODEL, { gpu: Promise.resolve() }),
        "gpu is a Promise (await it), but a Gpu, as openGpu",
      ],
      [() => writeVideo(7, video), "writeVideo: path is 7, but a path was expected"],
      [() => writeVideo("a.mp4"), "writeVideo: the video is undefined, but a clip with width"],
      [() => writeVideo("a.mp4", Promise.resolve(video)), "writeVideo: the video is a Promise (await it), but"],
      [() => writeVideo("a.mp4", { ...video, width: 2 }), "writeVideo: the video is an object, but a clip"],
      [() => writeVideo("a.mp4", { ...video, fps: NaN }), "writeVideo: the video is an object, but a clip"],
      [() => writeVideo("a.mp4", video, { qualty: 3 }), 'writeVideo has no option "qualty": did you mean quality?'],
      [() => writeVideo("a.mp4", video, { quality: 0 }), "writeVideo: quality is 0, but a number from 1 to 100"],
      [() => writeVideo("a.mp4", video, { signal: {} }), "writeVideo: signal is an object, but an AbortSignal"],
      [() => vedaAttention({ keep: 0 }), "vedaAttention: keep is 0, but a number above 0 and at most 1 was expected"],
      [() => vedaAttention({ keep: "0.1" }), 'vedaAttention: keep is "0.1", but'],
      [() => vedaAttention({ rest: "estimate" }), 'rest is "estimate", but true or false was expected'],
      [() => vedaAttention({ denseStep: 1 }), 'has no option "denseStep": did you mean denseSteps?'],
      [() => vedaAttention({ denseLayers: 3 }), "denseLayers is 3, but a list of layers, counted from 0, was expected"],
      [
        () => vedaAttention({ shapes: [1, 2] }),
        "shapes is a list of 2, but a shape of three whole numbers or shapes of tiles",
      ],
      [() => vedaHeads({ scorer: "tiles.safetensors" }), 'scorer is "tiles.safetensors", but a scorer, as loadVeda'],
      [() => routedAttention(), "routedAttention takes an object of options, not undefined"],
      [
        () => routedAttention({ settings }),
        "routedAttention needs the option router: a Router, as loadRouter gives it",
      ],
      [() => vedaAttention({ keep: 2 }), "keep is 2, but a number above 0 and at most 1 was expected"],
      [() => routedAttention({ router, settings, tau: 2 }), "tau is 2, but a number from 0 to 1 was expected"],
      [
        () => routedAttention({ router, settings: {} }),
        "settings is an object, but a function from a grid to settings",
      ],
      [() => singleBranch("full", settings), 'branch is "full", but "coreset" or "sliding" was expected'],
      [() => singleBranch("sliding"), "settings is undefined, but a function from a grid to settings"],
      [() => library.loadRouter(), "the path of a file or folder is undefined, but a path was expected"],
      [() => library.randn(4, 0), "randn: count is 4, but a whole number of at least 16 was expected"],
      [() => library.randn(16, NaN), "randn: seed is NaN, but a whole number was expected"],
      [() => library.ssim(video, { ...video, width: 2 }), "clips of one size were expected"],
      [() => library.ssim(video, video), "no SSIM window fits into 1x1"],
      [() => library.saveRouter("r.safetensors", {}), "saveRouter: the router is an object, but a Router was expected"],
      [() => library.openCheckpoint(), "the path of a file or folder is undefined, but a path was expected"],
      [() => library.readSchedulerConfig(), "the path of a file or folder is undefined, but a path was expected"],
      [() => library.loadVeda(3), "the path of a file or folder is 3, but a path was expected"],
      [
        () =>
          library.createScheduler({ kind: "unipc", numTrainTimesteps: 1000, flowShift: 1 }, { steps: 2, kind: "ddim" }),
        'scheduler is "ddim", but unipc or euler or lcm or dmd was expected',
      ],
    ] as const
  ) await refused(call, message);
});

Deno.test("a pipeline's options, one clip at a time, and use after it was closed", async (t) => {
  const gpu = await openGpu({ tune: undefined });
  await t.step("load", async () => {
    const load = (options: object) => () => VideoPipeline.load(MODEL, { gpu, ...options });
    await refused(load({ weights: "gpu" }), 'weights is "gpu", but "auto", "resident" or "stream" was expected');
    await refused(load({ clips: [{ width: "832" }] }), "clips is a list of 1, but a list of clips, each with width");
    await refused(load({ onprogress: () => {} }), 'has no option "onprogress": did you mean onProgress?');
    await refused(
      load({ textEncoder: "" }),
      'textEncoder is "", but a function that opens one, as onnxTextEncoder gives it, was expected',
    );
  });
  const pipeline = await VideoPipeline.load(MODEL, { gpu });
  await t.step("generate", async () => {
    for (
      const [options, message] of [
        [{ prompt: 5 }, "VideoPipeline.generate: prompt is 5, but a text that says what to show was expected"],
        [{ prompt: undefined }, "VideoPipeline.generate needs the option prompt: a text that says what to show"],
        [{ negativePrompt: 0 }, "negativePrompt is 0, but a text was expected"],
        [{ scheduler: "ddim" }, 'scheduler is "ddim", but "unipc", "euler", "lcm" or "dmd" was expected'],
        [{ guidance: NaN }, "guidance is NaN, but a number of at least 0 was expected"],
        [{ guidance: -1 }, "guidance is -1, but a number of at least 0"],
        [{ steps: 2.5 }, "steps is 2.5, but a whole number of at least 1 was expected"],
        [{ steps: 1001 }, "1001 steps are not possible; a whole number from 1 to 1000 was expected"],
        [{ frames: "29" }, 'frames is "29", but a whole number of at least 1 was expected'],
        [{ frames: 30 }, "the nearest that fit are 29 and 33"],
        [{ width: 33 }, "size 33x32 does not fit: both must be multiples of 16"],
        [{ fps: 0 }, "fps is 0, but a number above 0 was expected"],
        [{ seed: -1 }, "seed is -1, but a whole number from 0 to 4294967295 was expected"],
        [{ seed: 7n }, "seed is 7n, but a whole number"],
        [{ flowShift: "3" }, 'flowShift is "3", but a number above 0 was expected'],
        [{ textTokens: 0 }, "textTokens is 0, but a whole number of at least 1 was expected"],
        [{ latents: new Float32Array(4) }, "latents is a Float32Array, but an object with data as Float32Array"],
        [{ latents: { data: new Float32Array(4), shape: [5] } }, "latents is an object, but an object with data"],
        [{ embeddings: new Float32Array(4) }, "embeddings is a Float32Array, but an object with positive"],
        [{ attention: "vorta" }, 'attention is "vorta", but a kind of attention, as routedAttention or vedaAttention'],
        [{ signal: {} }, "signal is an object, but an AbortSignal was expected"],
        [{ onProgress: true }, "onProgress is true, but a function was expected"],
        [{ size: "832x480" }, 'VideoPipeline.generate has no option "size"; its options are prompt, negativePrompt,'],
        [{ promt: "a" }, 'VideoPipeline.generate has no option "promt": did you mean prompt?'],
      ] as const
    ) await refused(() => pipeline.generate({ ...CLIP, ...options }), message);
    await refused(() => pipeline.generate("a red circle"), 'takes an object of options, not "a red circle"');
    await refused(() => pipeline.encodePrompts("a"), 'prompts is "a", but a list of texts was expected');
    await refused(
      () => pipeline.encodePrompts(["a"], 16),
      "VideoPipeline.encodePrompts takes an object of options, not 16",
    );
    await refused(() => pipeline.encodePrompts(["a"], { textTokens: 0 }), "textTokens is 0, but a whole number of at");
  });
  await t.step("one at a time, also from inside, and the first comes out well", async () => {
    const other = () =>
      refused(() => pipeline.generate(CLIP), "this pipeline is still rendering another clip: await it");
    const first = pipeline.generate({ ...CLIP, onStep: () => other() });
    await other();
    await refused(() => pipeline.encodePrompts(["a"]), "this pipeline is still rendering another clip");
    assertEquals((await first).data.length, 32 * 32 * 5 * 3);
    assertEquals((await pipeline.generate(CLIP)).data.length, 32 * 32 * 5 * 3);
  });
  await t.step("closed", async () => {
    pipeline.close();
    pipeline.close();
    await refused(
      () => pipeline.generate(CLIP),
      "this pipeline is closed: load the model again with VideoPipeline.load",
    );
    await refused(() => pipeline.sampleLatents(CLIP), "this pipeline is closed");
    await refused(() => pipeline.encodePrompts(["a"]), "this pipeline is closed");
  });
  await t.step("a GPU that is closed", async () => {
    const left = await VideoPipeline.load(MODEL, { gpu });
    gpu.close();
    gpu.close();
    await refused(() => left.generate(CLIP), "this Gpu is closed: open a new one with openGpu");
    left.close();
    await refused(() => VideoPipeline.load(MODEL, { gpu }), "this Gpu is closed: open a new one with openGpu");
    await refused(() => gpu.finish(), "this Gpu is closed");
  });
});

Deno.test("nothing is written where the video is none", () =>
  inTempDir(async (dir) => {
    await assertRejects(() => writeVideo(join(dir, "a.mp4"), {}), TilereelError);
    assertEquals(listFiles(dir), []);
  }));
