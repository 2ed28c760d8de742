import { assert, assertEquals } from "@std/assert";
import { inTempDir, listFiles } from "../../process.ts";
import { join } from "node:path";
import { Api } from "./api.ts";
import { startServer } from "./server.ts";

const CLIP = { prompt: "a red circle", steps: 3, size: "64x64", frames: 9, seed: 7 };

Deno.test("which tiles a clip's heads look at is kept where it is asked for", () =>
  inTempDir(async (dir) => {
    await using server = await startServer(dir);
    const api = await Api.open(server.url);
    const { body: { id } } = await api.create({ ...CLIP, attention: "veda", keep: 0.3, "tile-map": true });
    const { tilereel } = (await api.watch(id)).at(-1)!;
    assertEquals((tilereel as { tiles?: boolean }).tiles, true);
    const { body: map } = await api.ask("Tiles", `/v1/videos/${id}/tiles`);
    // The first step has full attention.
    assertEquals([map.grid, map.steps, map.layers, map.heads], [[3, 4, 4], [1, 2], [0, 1, 2, 3, 4, 5, 6, 7], 8]);
    const { body } = await api.ask("TileMask", `/v1/videos/${id}/tiles/2/7/3`);
    const tiles = (body.counts as number[]).reduce((all, count) => all * count), width = Math.ceil(tiles / 8);
    const bits = Uint8Array.fromBase64(body.mask as string);
    assertEquals(bits.length, tiles * width);
    const looksAt = (query: number, key: number) => (bits[query * width + (key >> 3)]! >> (key & 7)) & 1;
    let pairs = 0;
    for (let query = 0; query < tiles; query++) {
      assertEquals(looksAt(query, query), 1, "a tile looks at itself");
      for (let key = 0; key < tiles; key++) pairs += looksAt(query, key);
    }
    assert(pairs < tiles ** 2 && pairs >= tiles, `${pairs} of ${tiles ** 2}`);
    for (const path of ["tiles/0/0/0", "tiles/2/8/0", "tiles/2/0/8", "tiles/x/0/0"]) {
      assertEquals((await api.ask("TileMask", `/v1/videos/${id}/${path}`)).status, 404, path);
    }
    const { status, body: refused } = await api.create({ ...CLIP, "tile-map": "true" });
    assertEquals([status, (refused.error as { param: string }).param], [400, "tile-map"]);
    assertEquals((await api.create({ ...CLIP, attention: "veda", "tile-map": "maybe" })).status, 400);
    await api.ask("DeletedVideo", `/v1/videos/${id}`, { method: "DELETE" });
    assertEquals(listFiles(join(dir, "served")).filter((name) => name.includes(`${id}`)), []);
    assertEquals(server.errors(), "");
  }));

Deno.test("clips of one scene are listed together, and compared by their files", () =>
  inTempDir(async (dir) => {
    await using server = await startServer(dir);
    const api = await Api.open(server.url), ids: unknown[] = [];
    for (const more of [{}, { attention: "veda", keep: 0.3, frames: 9 }, { seed: 8 }]) {
      ids.push((await api.create({ ...CLIP, ...more })).body.id);
    }
    const [{ tilereel }] = [(await api.watch(ids[2])).at(-1)!];
    const [first] = await api.watch(ids[0]), scene = (first!.tilereel as { scene: string }).scene;
    assert((tilereel as { scene: string }).scene !== scene);
    const { body: { data } } = await api.ask("VideoList", `/v1/videos?order=asc&scene=${scene}`);
    assertEquals((data as { id: string }[]).map(({ id }) => id), ids.slice(0, 2));
    const same = await api.ask("Likeness", `/v1/videos/${ids[0]}/likeness?to=${ids[0]}`);
    assertEquals(same.body.psnr, null);
    assert(Math.abs((same.body.ssim as number) - 1) < 1e-9);
    const { psnr, ssim } = (await api.ask("Likeness", `/v1/videos/${ids[1]}/likeness?to=${ids[0]}`)).body;
    assert((psnr as number) > 5 && (psnr as number) < 60 && (ssim as number) < 1, `${psnr} ${ssim}`);
    assertEquals((await api.ask("Likeness", `/v1/videos/${ids[1]}/likeness?to=../etc`)).status, 404);
    const { body: { id: other } } = await api.create({ ...CLIP, size: "32x32" });
    await api.watch(other);
    assertEquals((await api.ask("Likeness", `/v1/videos/${ids[1]}/likeness?to=${other}`)).status, 409);
    assertEquals(server.errors(), "");
  }));
