import { assert, assertEquals, assertRejects } from "@std/assert";
import { drySource } from "../../bench/full_size/made_source.ts";
import { SHAPES } from "../../bench/shapes.ts";
import { TilereelError } from "../../gpu/common/errors.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import { openModel } from "../../model/checkpoint/model_folder.ts";
import { VideoPipeline } from "../../model/pipeline.ts";
import { fitted, Previews } from "../../model/previews.ts";
import type { Video } from "../../model/video/video.ts";
import { testOnGpu } from "../gpu.ts";

const TINY = new URL("../fixtures/tiny_taehv/a.safetensors", import.meta.url).pathname;

/** A clip with a pixel of each grey. */
function grey(width: number, height: number, frames: number, fps: number): Video {
  const data = Uint8Array.from({ length: width * height * frames * 3 }, (_, i) => Math.floor(i / 3));
  return { width, height, frames, fps, data };
}

Deno.test("previews: the first is shown at once, and all others take 2 % of the time", async () => {
  let now = 0, spent = 0;
  const shown: number[] = [];
  const preview = () => Promise.resolve(grey(2, 2, 1, 4));
  const previews = new Previews({ decodesPreviews: false, preview } as unknown as VideoPipeline, {
    now: () => now,
    show: (_, step) => {
      shown.push(step);
      now += 100;
      spent += 100;
      assert(step === 0 || spent <= 0.02 * now, `${spent} ms of ${now}`);
    },
  });
  for (let step = 0; step < 60; step++) {
    await previews.onPreview({} as Tensor, step);
    await new Promise((resolve) => setTimeout(resolve, 0));
    now += 1000;
  }
  assertEquals([shown[0], shown.length], [0, 12]);
  await previews.end();
  await previews.onPreview({} as Tensor, 1000);
  assertEquals(shown.length, 12);
});

Deno.test("previews: one that cannot be shown is said once, and the clip goes on", async () => {
  const notes: string[] = [], now = () => 0;
  const failing = (preview: () => Promise<Video | undefined>, show = () => {}) =>
    new Previews({ decodesPreviews: true, preview } as unknown as VideoPipeline, {
      ...{ now, show },
      onNote: (note) => notes.push(note),
    });
  const none = failing(() => Promise.resolve(undefined)),
    full = failing(() => Promise.resolve(grey(1, 1, 1, 1)), () => {
      throw new TilereelError("the disk is full");
    });
  for (const previews of [none, full]) {
    for (const step of [0, 1]) await previews.onPreview({} as Tensor, step);
    await previews.end();
  }
  assertEquals(notes.length, 2);
  assert(notes[0]!.includes("no previews without a tiny autoencoder"));
  assertEquals(notes[1], "there are no more previews: the disk is full");
  const bug = failing(() => Promise.reject(new TypeError("x")));
  await bug.onPreview({} as Tensor, 0);
  await assertRejects(() => bug.end(), TypeError);
});

Deno.test("previews are enlarged by whole numbers, or made smaller, and have at most 8 frames a second", () => {
  const { width, height, frames, fps } = fitted(grey(13, 26, 5, 4));
  assertEquals([width, height, frames, fps], [156, 312, 5, 4]);
  const small = fitted(grey(832, 480, 6, 24));
  assertEquals([small.width, small.height, small.frames, small.fps], [320, 185, 2, 8]);
  // Between two pixels lies what is between them.
  const { data } = fitted({ width: 2, height: 1, frames: 1, fps: 1, data: Uint8Array.of(0, 0, 0, 160, 80, 240) });
  assertEquals([...data.subarray(0, 3), ...data.subarray(-3)], [0, 0, 0, 160, 80, 240]);
  const middle = data.subarray(3 * 159, 3 * 160);
  assert(middle[0]! > 70 && middle[0]! < 90 && middle[1]! > 35 && middle[1]! < 45, `${middle}`);
});

Deno.test("previews: the colours of the latents of Wan and HunyuanVideo are known", async () => {
  using demo = await openModel(embeddedModelDir());
  const models = [
    demo,
    ...["1.3b", "14b", "i2v-a14b", "ti2v-5b", "hunyuan"].map((name) =>
      SHAPES[name as keyof typeof SHAPES].model(drySource)
    ),
  ];
  const channels = models.map(({ latentRgb }) => latentRgb?.factors.length);
  assertEquals(channels, [16, 16, 16, 16, 48, 16]);
  for (const { latentRgb, latentShape } of models) {
    assertEquals(latentRgb!.factors.length, latentShape({ width: 64, height: 64, frames: 5 })[1]);
    assert(
      latentRgb!.factors.every((of) => of.length === 3) && latentRgb!.bias.every((value) => value > 0 && value < 1),
    );
  }
});

testOnGpu("previews by a tiny autoencoder have the clip's size, and do not change it", async (gpu) => {
  const clip = { prompt: "a red circle", width: 64, height: 32, frames: 9, steps: 2, guidance: 1, seed: 2, fps: 16 };
  const pipeline = await VideoPipeline.load(embeddedModelDir(), { gpu, previewVae: TINY });
  try {
    assertEquals(pipeline.decodesPreviews, true);
    const shown: Video[] = [], { data } = await pipeline.generate(clip), { used } = gpu.memory;
    const onPreview = async (clean: Tensor) => void shown.push((await pipeline.preview(clean, clip.fps))!);
    assertEquals((await pipeline.generate({ ...clip, onPreview })).data, data);
    assertEquals(gpu.memory.used, used);
    assertEquals(shown.map(({ width, height, frames, fps }) => [width, height, frames, fps]), [
      [64, 32, 9, 16],
      [64, 32, 9, 16],
    ]);
  } finally {
    pipeline.close();
  }
  await assertRejects(
    () => VideoPipeline.load(embeddedModelDir(), { gpu, previewVae: `${embeddedModelDir()}/vae` }),
    TilereelError,
    "but a tiny autoencoder (TAEHV) was expected",
  );
});
