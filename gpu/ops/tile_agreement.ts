import type { Gpu } from "../gpu.ts";
import { read, u32s, write } from "../kernel.ts";
import { chosenHead } from "../kernels/chosen_heads.ts";
import type { Tensor } from "../tensor.ts";
import type { TileBudget, TileLayout } from "../tile_layout.ts";
import { perElement, runPerElement } from "../kernels/per_element.ts";
import { sumRows } from "./sum_rows.ts";

/** Both lists of a row are sorted, so one pass over the tiles finds all matches. */
const KERNEL = perElement({
  name: "tile_agreement",
  buffers: {
    ...{ picked: read("vec2u"), oracle: read("vec2u"), mass: read("f32") },
    ...{ tiles: read("vec2u"), rows: read("vec2u"), head_ids: read("u32"), y: write("vec4f") },
  },
  params: u32s("n", "runs_each", "has_heads", "has_mass"),
  body: `  let own = i % p.n;
${chosenHead("list", "i / p.n")}
  let tiles_at = kind * p.n;
  let row = rows[tiles_at + own];
  // The row of no tile: the head's kind has fewer than others.
  if (row.y == 0u) { y[i] = vec4f(); return; }
  let last = list * p.runs_each + row.x + row.y - 1u;
  var a = list * p.runs_each + row.x;
  var b = a;
  var found = vec4f();
  for (var j = 0u; j < p.n; j++) {
    if (tiles[tiles_at + j].y == 0u) { break; }
    let first = tiles[tiles_at + j].x;
    let in_a = picked[min(a, last)].x == first && a <= last;
    let in_b = oracle[min(b, last)].x == first && b <= last;
    var m = 0.0;
    if (p.has_mass != 0u) { m = mass[(list * p.n + own) * p.n + j]; }
    if (j != own) { found += vec4f(select(0.0, 1.0, in_a && in_b), select(0.0, 1.0, in_b), 0.0, 0.0); }
    found += vec4f(0.0, 0.0, select(0.0, m, in_a), select(0.0, m, in_b));
    a += select(0u, 1u, in_a);
    b += select(0u, 1u, in_b);
  }
  y[i] = found;`,
});

/**
 * Measures how well selected key tiles agree with those that a teacher would have selected, with the same budget. No
 * tile of a kind may be empty.
 *
 * @param picked [lists, runs, 2], u32: the selection, as `selectTiles` returns it
 * @param oracle likewise, the teacher's
 * @param mass [lists, tiles, tiles], f32: sums of attention probabilities, see `tileHeat`. Default: 0
 * @param only [n], u32, as `headOfKind` makes them: the lists to compare. Default: all
 * @returns [chosen lists, 4], f32, summed over a list's rows: tiles in both selections, and tiles of the oracle,
 * without the row's own tile; mass of the picked tiles, and of the oracle's
 */
export function tileAgreement(
  gpu: Gpu,
  picked: Tensor,
  oracle: Tensor,
  mass: Tensor | undefined,
  { tiles }: Pick<TileLayout, "tiles">,
  { rows, runs }: Pick<TileBudget, "rows" | "runs">,
  only?: Tensor,
): Tensor {
  const n = tiles.dim(1), lists = only?.dim(0) ?? picked.dim(0);
  return gpu.scope(() => {
    const y = gpu.tensor([lists, n, 4]);
    const buffers = {
      picked,
      oracle,
      mass: mass ?? gpu.placeholder,
      tiles,
      rows,
      head_ids: only ?? gpu.placeholder,
      y,
    };
    const params = { n, runs_each: runs, has_heads: only ? 1 : 0, has_mass: mass ? 1 : 0 };
    return sumRows(gpu, runPerElement(gpu, KERNEL, buffers, params));
  });
}
