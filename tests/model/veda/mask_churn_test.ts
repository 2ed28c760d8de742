import { assert, assertEquals } from "@std/assert";
import { uploadTileBudget, uploadTileLayout } from "../../../gpu/tile_layout.ts";
import { tileGrid } from "../../../model/attention/tiles.ts";
import { MaskChurn } from "../../../model/veda/mask_churn.ts";
import { testVariants } from "../../gpu.ts";

const TILES = 4, HEADS = 3;
const tiled = tileGrid([1, 1, 2 * TILES], [1, 1, 2]), { tiles } = tiled, keep = [2, 2, 2, 2];

testVariants(
  "churn: tiles that were not selected in the step before, of heads that select in both",
  async ({ gpu }) => {
    void gpu.placeholder; // made on first use, and kept
    const before = gpu.memory.used;
    const layout = uploadTileLayout(gpu, [{ order: Uint32Array.from({ length: 2 * TILES }, (_, i) => i), tiles }]);
    const budget = uploadTileBudget(gpu, [{ tiles, keep }], 64);
    const churn = new MaskChurn(gpu, 1);
    /** Each row has its own tile, and the one `by` further. */
    const select = (step: number, heads: readonly number[], by: (head: number) => number, pass = 0) =>
      gpu.scope(() => {
        const runs = Array.from({ length: HEADS }, (_, head) => tiles.map((_, own) => [own, (own + by(head)) % TILES]))
          .flat().flatMap((row) => row.sort()).flatMap((tile) => [2 * tile, 2]);
        churn.observe({
          ...{ step, pass, layer: 0, heads, layout, budget, tiled, keep },
          only: gpu.upload(Uint32Array.from(heads), [heads.length], "u32"),
          runs: gpu.upload(Uint32Array.from(runs), [HEADS, 2 * TILES, 2], "u32"),
        });
      });
    assertEquals(await churn.read(), undefined);
    select(0, [0, 1], () => 1);
    assertEquals(await churn.read(), undefined);
    // Head 0 keeps its tiles, head 1 changes all, head 2 had none before.
    select(1, [0, 1, 2], (head) => head === 1 ? 2 : 1);
    assertEquals(await churn.read(), 0.5);
    // A step without a selection, or another pass, is not compared with.
    select(3, [0, 1], () => 3);
    select(4, [0], () => 1, 1);
    assertEquals(await churn.read(), 0.5);
    select(4, [0], () => 3);
    assert(Math.abs((await churn.read())! - 1 / 3) < 1e-6);
    churn[Symbol.dispose]();
    for (const tensor of [layout.order, layout.tiles, budget.rows, budget.blocks]) gpu.release(tensor);
    assertEquals(gpu.memory.used, before, "nothing is left behind");
  },
);
