import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { ClipStore } from "../../../cli/compare/clip_store.ts";
import type { Video } from "../../../model/video/video.ts";
import { inTempDir, listFiles } from "../../process.ts";

const VIDEO: Video = { width: 32, height: 32, frames: 2, fps: 8, data: new Uint8Array(32 * 32 * 3 * 2).fill(90) };
const FIGURES = { steps: 2, guidance: 1, seconds: { denoise: 1, total: 2 }, density: 0.5, timesteps: [999, 500] };
const IDENTITY = { prompt: "a cat", seed: 7, router: "r.safetensors", routerDigest: "abc", tau: 0.3 };

Deno.test("clips are found again by what they were made with; files by what they hold, not by their names", () =>
  inTempDir(async (dir) => {
    const add = async (identity: typeof IDENTITY) => {
      const store = await ClipStore.open(dir);
      return await store.add("vorta", VIDEO, { ...FIGURES, identity }, () => {});
    };
    assertEquals((await add(IDENTITY)).folder, "a-cat-7");
    const find = async (more: Partial<typeof IDENTITY>) => (await ClipStore.open(dir)).find({ ...IDENTITY, ...more });
    assertEquals((await find({}))?.name, "vorta");
    assertEquals((await (await ClipStore.open(dir)).samples((await find({}))!))?.data, VIDEO.data);
    assert(await find({ router: "elsewhere/r.safetensors" }));
    for (const other of [{ routerDigest: "abd" }, { tau: 0.5 }, { seed: 8 }]) {
      assertEquals(await find(other), undefined);
    }

    // A setting that changed takes the place of the clip it had; another prompt of the same words has its own folder.
    await add({ ...IDENTITY, tau: 0.5 });
    assertEquals(await find({}), undefined);
    assertEquals((await add({ ...IDENTITY, prompt: "A cat!" })).folder, "a-cat-7-2");
    const files = ["vorta.json", "vorta.mp4", "vorta.png", "vorta.rgb.gz"];
    const made = ["a-cat-7", "a-cat-7-2"].flatMap((name) => [`${name}/`, ...files.map((file) => `${name}/${file}`)]);
    assertEquals(listFiles(dir), made.sort());

    // What is damaged or gone is not there.
    await Deno.writeTextFile(join(dir, "a-cat-7/vorta.rgb.gz"), "no gzip");
    const damaged = (await find({ tau: 0.5 }))!;
    assertEquals(await (await ClipStore.open(dir)).samples(damaged), undefined);
    await Deno.remove(join(dir, "a-cat-7/vorta.png"));
    assertEquals(await find({ tau: 0.5 }), undefined);
    await Deno.writeTextFile(join(dir, "a-cat-7-2/vorta.json"), '{"identity": ');
    assertEquals(await find({ prompt: "A cat!" }), undefined);
  }));
