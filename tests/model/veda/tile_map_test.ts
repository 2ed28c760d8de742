import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { TilereelError } from "../../../gpu/common/errors.ts";
import { uploadTileBudget, uploadTileLayout } from "../../../gpu/tile_layout.ts";
import type { AttentionTask, SelectedTiles } from "../../../model/attention/method.ts";
import { tileGrid } from "../../../model/attention/tiles.ts";
import { writeSafetensors } from "../../../model/checkpoint/write_safetensors.ts";
import { everyOf, TileMap, TileRecorder } from "../../../model/veda/tile_map.ts";
import { inTempDir } from "../../process.ts";
import { openTestGpu } from "../../gpu.ts";

const HEADS = 3;

Deno.test("a map has the tiles that heads selected, and nothing where they selected none", () =>
  inTempDir(async (dir) => {
    const gpu = await openTestGpu();
    // 10 tiles, so that a row has two bytes, the last of them cut off, and kept tokens after each row's tiles.
    const grid = [1, 1, 19] as const, tiled = tileGrid(grid, [1, 1, 2]), { tiles, order } = tiled;
    const keep = tiles.map((_, row) => 1 + row % 3);
    const layout = uploadTileLayout(gpu, [{ order, tiles }]),
      budget = uploadTileBudget(gpu, [{ tiles, keep }], 64, { first: 19, count: 4 });
    /** A row's own tile and those after it, counted round; other heads begin further on. */
    const chosen = (head: number, row: number) =>
      Array.from({ length: keep[row]! }, (_, i) => (row + head + i) % tiles.length).sort((a, b) => a - b);
    const select = (heads: readonly number[]): Omit<SelectedTiles, "step" | "pass" | "layer"> => {
      const runs = Array.from({ length: HEADS }, (_, head) => [
        ...tiles.flatMap((_, row) => [...chosen(head, row).map((tile) => tiles[tile]!), { first: 19, count: 4 }]),
        { first: 0, count: 23 },
      ]).flat().flatMap(({ first, count }) => [first, count]);
      return {
        ...{ heads, layout, budget, kinds: heads.map(() => ({ tiled, keep })) },
        only: gpu.upload(Uint32Array.from(heads), [heads.length], "u32"),
        runs: gpu.upload(Uint32Array.from(runs), [HEADS, budget.runs, 2], "u32"),
      };
    };
    const path = join(dir, "a.safetensors");
    {
      using recorder = new TileRecorder(gpu);
      let onTiles: AttentionTask["onTiles"];
      const method = recorder.recorded({
        prepare: (task) => {
          onTiles = task.onTiles;
          return Promise.resolve({ at: () => (q) => q, report: () => ({ density: 1 }), [Symbol.dispose]: () => {} });
        },
      });
      const prepared = await method.prepare({
        shape: { layers: 2, heads: HEADS },
        ...{ layout: { grid, kept: 4 }, timesteps: [3, 2, 1] },
      } as unknown as AttentionTask);
      for (const [step, pass, layer, heads] of [[1, 0, 0, [0, 2]], [1, 1, 0, [1]], [2, 0, 1, [1]]] as const) {
        prepared.at(step, pass);
        gpu.scope(() => onTiles!({ step, pass, layer, ...select(heads) }));
      }
      assert(await recorder.save(path));
    }
    using map = await TileMap.open(path);
    assertEquals(map.contents, { grid, shapes: [[1, 1, 2]], steps: [1, 2], layers: [0, 1], heads: HEADS });
    for (const [step, layer, head] of [[1, 0, 0], [1, 0, 2], [2, 1, 1]] as const) {
      const { counts, bits } = (await map.mask(step, layer, head))!;
      assertEquals(counts, [1, 1, 10]);
      for (const row of tiles.keys()) {
        const found = [...tiles.keys()].filter((tile) => bits[2 * row + (tile >> 3)]! >> (tile & 7) & 1);
        assertEquals(found, chosen(head, row));
      }
    }
    for (const [step, layer, head] of [[1, 0, 1], [2, 1, 0], [0, 0, 0], [1, 0, 3], [1, 0, NaN]] as const) {
      assertEquals(await map.mask(step, layer, head), undefined);
    }
    using none = new TileRecorder(gpu);
    assertEquals(await none.save(path), false);
    await writeSafetensors(path, { a: { dtype: "U8", shape: [1], data: new Uint8Array(1) } });
    await assertRejects(() => TileMap.open(path), TilereelError, "holds no map of tiles");
    gpu.close();
  }));

Deno.test("a map of a long clip has some steps and layers, and at most 16 MiB", () => {
  assertEquals(everyOf(8 * 32 * 4, { layers: 8, steps: 20, from: 1 }), { from: 1, layers: 1, steps: 1 });
  // Wan 1.3B at 480p.
  const bytes = 12 * 546 * 69, { layers, steps } = everyOf(bytes, { layers: 30, steps: 50, from: 1 });
  const kept = Math.ceil(30 / layers) * Math.ceil(49 / steps);
  assert(kept * bytes <= 2 ** 24 && kept * bytes > 2 ** 23, `${layers} ${steps}`);
});
