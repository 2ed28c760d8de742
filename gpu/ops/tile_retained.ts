import type { Gpu } from "../gpu.ts";
import { read, write } from "../kernel.ts";
import { memo } from "../kernels/memo.ts";
import { lanesOf, perRow, runPerRow } from "../kernels/row_reduction.ts";
import type { Tensor } from "../tensor.ts";
import type { TileBudget } from "../tile_layout.ts";

/** How far from the cut a soft choice reaches, in standard deviations of a row's scores. */
const SOFTNESS = 0.15;

/** A tile's own tile is always kept, so that it takes no part: `kept` others of `others` are chosen. */
const kernel = memo((plain: boolean) => {
  const lanes = lanesOf(plain);
  const each = (body: string) =>
    `  for (var c = lane; c < p.columns; c += ${lanes}u) {
    if (c == tile) { continue; }
${body}
  }`;
  return perRow(lanes, {
    name: `tile_retained_${plain ? "plain" : "shared"}`,
    buffers: {
      ...{ scores: read("f32"), mass: read("f32"), keep: read("vec2u"), ids: read("u32") },
      ...{ loss: write("f32"), gradient: write("f32") },
    },
    params: { columns: "u32", weight: "f32", has_ids: "u32" },
    declarations: `
// How many of the row's other tiles are before this one, by score and by mass.
fn ranks(at: u32, tile: u32, c: u32, columns: u32) -> vec2u {
  let own = vec2f(scores[at + c], mass[at + c]);
  var before = vec2u();
  for (var j = 0u; j < columns; j++) {
    if (j == tile) { continue; }
    let other = vec2f(scores[at + j], mass[at + j]);
    before += select(vec2u(), vec2u(1u), (other > own) | ((other == own) & vec2<bool>(j < c)));
  }
  return before;
}`,
    body: `  let own = min(row, p.rows - 1u);
  let tile = own % p.columns;
  var list = own / p.columns;
  if (p.has_ids != 0u) { list = ids[list]; }
  let at = (list * p.columns + tile) * p.columns;
  let others = f32(max(p.columns, 2u) - 1u);
  let kept = keep[tile].y - 1u;
  var first = vec2f();
${each("    first.x += scores[at + c];")}
  let mean = row_sum(first.x, lane) / others;
${each("    first.y += (scores[at + c] - mean) * (scores[at + c] - mean);")}
  let spread = sqrt(row_sum(first.y, lane) / others);
  let to_z = 1.0 / max(spread, 1e-30);
  // The cut lies between the last tile that is kept and the first that is not.
  var last_kept = 0.0;
  var first_left = 0.0;
  var most = 0.0;
${
      each(`    let rank = ranks(at, tile, c, p.columns);
    if (rank.x + 1u == kept) { last_kept += f32(c); }
    if (rank.x == kept) { first_left += f32(c); }
    if (rank.y < kept) { most += mass[at + c]; }`)
    }
  let inside = u32(row_sum(last_kept, lane));
  let outside = u32(row_sum(first_left, lane));
  let attainable = max(row_sum(most, lane), 1e-37);
  let cut = 0.5 * ((scores[at + inside] - mean) * to_z + (scores[at + outside] - mean) * to_z);
  var total = 0.0;
  var held = 0.0;
${
      each(`    let z = (scores[at + c] - mean) * to_z;
    let share = 1.0 / (1.0 + exp((cut - z) * ${1 / SOFTNESS}));
    total += share;
    held += share * mass[at + c];`)
    }
  let all = max(row_sum(total, lane), 1e-30);
  let average = row_sum(held, lane) / all;
  let factor = f32(kept) / (all * attainable);
  var pull = 0.0;
  var turn = 0.0;
${
      each(`    let z = (scores[at + c] - mean) * to_z;
    let share = 1.0 / (1.0 + exp((cut - z) * ${1 / SOFTNESS}));
    let slope = factor * (average - mass[at + c]) * share * (1.0 - share) * ${1 / SOFTNESS};
    pull += slope;
    turn += slope * z;`)
    }
  let pulled = row_sum(pull, lane);
  let turned = (row_sum(turn, lane) - pulled * cut) / others;
  // Where all or none of the others are kept, nothing can be learned.
  let learns = kept > 0u && kept < p.columns - 1u && spread > 0.0;
  if (row >= p.rows) { return; }
${
      each(`    let z = (scores[at + c] - mean) * to_z;
    let share = 1.0 / (1.0 + exp((cut - z) * ${1 / SOFTNESS}));
    var slope = factor * (average - mass[at + c]) * share * (1.0 - share) * ${1 / SOFTNESS};
    if (c == inside) { slope -= 0.5 * pulled; }
    if (c == outside) { slope -= 0.5 * pulled; }
    gradient[at + c] = select(0.0, p.weight * to_z * (slope - z * turned), learns);`)
    }
  if (lane == 0u) {
    gradient[at + tile] = 0.0;
    loss[row] = select(0.0, 1.0 - f32(kept) * average / attainable, learns);
  }`,
  });
});

/**
 * The share of attainable mass that a choice by scores loses: 1 − Σ π·mass / Σ best·mass. `best` are the tiles with the
 * most mass, and π a soft choice of as many: a sigmoid of the standardised scores around the cut. A row's shift and
 * scale change no choice, and so they change neither this loss nor the scores that it teaches, unlike a divergence. A
 * row's own tile is always kept and takes no part.
 *
 * @param scores [lists, tiles, tiles], f32; a list is a head of a batch item
 * @param mass likewise; not negative, and no row all zeros
 * @param keep the number of tiles of each row, its own included
 * @param weight the weight of a row in the loss whose gradient is returned
 * @param only [n], u32: the chosen lists, of one kind of heads. Default: all
 * @returns as `tileLoss`
 */
export function retainedLoss(
  gpu: Gpu,
  scores: Tensor,
  mass: Tensor,
  keep: Pick<TileBudget, "rows">,
  weight: number,
  only?: Tensor,
): { readonly rows: Tensor; readonly gradient: Tensor } {
  if (mass.shape.join() !== scores.shape.join()) throw new Error(`retainedLoss: [${scores.shape}] and [${mass.shape}]`);
  const [lists, tiles, columns] = scores.shape as [number, number, number];
  const rows = gpu.tensor([only?.dim(0) ?? lists, tiles, 1]), gradient = gpu.tensor(scores.shape);
  const buffers = { scores, mass, keep: keep.rows, ids: only ?? gpu.placeholder, loss: rows, gradient };
  const params = { rows: rows.size, columns, weight, has_ids: only ? 1 : 0 };
  runPerRow(gpu, kernel(gpu.kernels.plain), buffers, params);
  return { rows, gradient };
}
