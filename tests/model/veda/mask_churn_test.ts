import { assert, assertEquals } from "@std/assert";
import { headOfKind } from "../../../gpu/kernels/chosen_heads.ts";
import { uploadTileBudget, uploadTileLayout } from "../../../gpu/tile_layout.ts";
import { tileGrid } from "../../../model/attention/tiles.ts";
import { MaskChurn } from "../../../model/veda/mask_churn.ts";
import { testVariants } from "../../gpu.ts";

const TOKENS = 8, HEADS = 3;
/** Four tiles, and three, of which each keeps two. */
const KINDS = [2, 3].map((length) => {
  const tiled = tileGrid([1, 1, TOKENS], [1, 1, length]), { tiles, order } = tiled;
  return { tiled, tiles, order, keep: tiles.map(() => 2) };
});
/** The last head has the three. */
const kindOf = (head: number) => head === 2 ? 1 : 0;

testVariants(
  "churn: tiles that were not selected in the step before, of heads that select in both",
  async ({ gpu }) => {
    void gpu.placeholder; // made on first use, and kept
    const before = gpu.memory.used;
    const layout = uploadTileLayout(gpu, KINDS), budget = uploadTileBudget(gpu, KINDS, 64);
    const churn = new MaskChurn(gpu, 1);
    /** Each row has its own tile, and the one `by` further. */
    const select = (step: number, heads: readonly number[], by: (head: number) => number, pass = 0) =>
      gpu.scope(() => {
        const runs = new Uint32Array(HEADS * budget.runs * 2);
        for (let head = 0; head < HEADS; head++) {
          const { tiles } = KINDS[kindOf(head)]!,
            picked = [...tiles.keys()]
              .flatMap((own) => [own, (own + by(head)) % tiles.length].sort())
              .map((tile) => tiles[tile]!);
          runs.set(picked.flatMap(({ first, count }) => [first, count]), head * budget.runs * 2);
        }
        churn.observe({
          ...{ step, pass, layer: 0, heads, layout, budget, kinds: heads.map((head) => KINDS[kindOf(head)]!) },
          only: gpu.upload(Uint32Array.from(heads, (head) => headOfKind(head, kindOf(head))), [heads.length], "u32"),
          runs: gpu.upload(runs, [HEADS, budget.runs, 2], "u32"),
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
    const is = async (share: number) => assert(Math.abs((await churn.read())! - share) < 1e-6);
    await is(1 / 3);
    // The head with three tiles changes all, then none.
    select(5, [2], () => 1);
    select(6, [1, 2], () => 2);
    await is(7 / 15);
    select(7, [2], () => 2);
    await is(7 / 18);
    churn[Symbol.dispose]();
    for (const tensor of [layout.order, layout.tiles, budget.rows, budget.blocks]) gpu.release(tensor);
    assertEquals(gpu.memory.used, before, "nothing is left behind");
  },
);
