import { assertEquals } from "@std/assert";
import type { Grid } from "../../../model/attention/grid.ts";
import { kindsTogether, tileKind } from "../../../model/veda/tile_kind.ts";

Deno.test("kinds that fit are put together: tiles of one size, not many more of them, known frames in as many", () => {
  const kinds = (shapes: readonly Grid[], grid: Grid, known = 0) =>
    kindsTogether(shapes.map((shape) => tileKind({ grid, kept: 0, known }, shape, 0.1)))
      .map((kinds) => kinds.map(({ tiled: { shape } }) => shape));
  assertEquals(kinds([[2, 4, 4], [4, 2, 4], [2, 4, 4], [4, 4, 4]], [4, 8, 8]), [
    [[4, 4, 4]],
    [[2, 4, 4], [4, 2, 4], [2, 4, 4]],
  ]);
  // 8, 8, 32 and 64 tiles.
  assertEquals(kinds([[1, 8, 4], [4, 8, 1], [16, 2, 1], [32, 1, 1]], [4, 8, 8]), [
    [[1, 8, 4], [4, 8, 1]],
    [[16, 2, 1], [32, 1, 1]],
  ]);
  assertEquals(kinds([[1, 8, 4], [2, 4, 4], [2, 4, 4], [4, 8, 1]], [4, 8, 8], 1), [
    [[1, 8, 4]],
    [[2, 4, 4], [2, 4, 4]],
    [[4, 8, 1]],
  ]);
  // What holds all orders can be bound.
  const kind = tileKind({ grid: [16, 64, 64], kept: 0 }, [4, 8, 8], 0.1);
  assertEquals(kindsTogether(Array.from({ length: 300 }, () => kind)).map(({ length }) => length), [256, 44]);
});
