import type { Gpu } from "../gpu.ts";
import { read, write } from "../kernel.ts";
import { memo } from "../kernels/memo.ts";
import { lanesOf, perRow, runPerRow } from "../kernels/row_reduction.ts";
import type { Tensor } from "../tensor.ts";
import { matmul } from "./matmul.ts";

const kernel = memo((plain: boolean) => {
  const lanes = lanesOf(plain);
  return perRow(lanes, {
    name: `tile_loss_${plain ? "plain" : "shared"}`,
    buffers: { scores: read("f32"), heat: read("f32"), ids: read("u32"), loss: write("f32"), gradient: write("f32") },
    params: { columns: "u32", weight: "f32", has_ids: "u32" },
    body: `  let own = min(row, p.rows - 1u);
  var list = own / p.columns;
  if (p.has_ids != 0u) { list = ids[list]; }
  let at = (list * p.columns + own % p.columns) * p.columns;
  // Every thread of a row reads the whole row. All read the same number at the same time, which costs as much as one
  // read.
  var top = scores[at];
  for (var c = 1u; c < p.columns; c++) { top = max(top, scores[at + c]); }
  var heats = 0.0;
  var powers = 0.0;
  for (var c = lane; c < p.columns; c += ${lanes}u) { heats += heat[at + c]; powers += exp(scores[at + c] - top); }
  let total = row_sum(heats, lane);
  let lse = top + log(row_sum(powers, lane));
  var sum = 0.0;
  for (var c = lane; c < p.columns; c += ${lanes}u) {
    let teacher = heat[at + c] / total;
    let student = scores[at + c] - lse;
    // Pairs that the teacher never attends to add nothing. A heat that is NaN still counts.
    if (!(teacher == 0.0)) { sum += teacher * (log(max(teacher, 1e-37)) - student); }
    if (row < p.rows) { gradient[at + c] = p.weight * (exp(student) - teacher); }
  }
  let divergence = row_sum(sum, lane);
  if (row < p.rows && lane == 0u) { loss[row] = divergence; }`,
  });
});

/**
 * KL(heat ‖ softmax(scores)) of each row, where the row of the heat is divided by its sum (Veda's loss).
 *
 * @param scores [lists, tiles, tiles], f32; a list is a head of a batch item
 * @param heat likewise; not negative, and no row all zeros
 * @param weight the weight of a row in the loss whose gradient is returned
 * @param only [n], u32: the chosen lists, of one kind of heads. Default: all
 * @returns rows [chosen lists, tiles, 1], f32: each row's divergence; and gradient [lists, tiles, tiles], f32: of weight
 * · Σ rows with respect to the scores, undefined in other lists
 */
export function tileLoss(
  gpu: Gpu,
  scores: Tensor,
  heat: Tensor,
  weight: number,
  only?: Tensor,
): { readonly rows: Tensor; readonly gradient: Tensor } {
  if (heat.shape.join() !== scores.shape.join()) throw new Error(`tileLoss: [${scores.shape}] and [${heat.shape}]`);
  const [lists, tiles, columns] = scores.shape as [number, number, number];
  const rows = gpu.tensor([only?.dim(0) ?? lists, tiles, 1]), gradient = gpu.tensor(scores.shape);
  const buffers = { scores, heat, ids: only ?? gpu.placeholder, loss: rows, gradient };
  const params = { rows: rows.size, columns, weight, has_ids: only ? 1 : 0 };
  runPerRow(gpu, kernel(gpu.kernels.plain), buffers, params);
  return { rows, gradient };
}

/**
 * Computes the gradients of the projections from the gradient of the scores scale · q̂·k̂, with
 * q̂ = features·projection + mean.
 *
 * @param gradient [lists, tiles, tiles], f32: of the scores
 * @param scored features, [lists, tiles, 3 · head dim], and predicted q̂ and k̂, [lists, tiles, head dim], f32
 * @param scale the factor of the products
 * @param into [lists, 3 · head dim, head dim], f32: receives the gradients; lists that are not chosen are not written
 * @param only [n], u32: the chosen lists, of one kind of heads. Default: all
 */
export function projectionGradients(
  gpu: Gpu,
  gradient: Tensor,
  scored: Readonly<Record<"featuresQ" | "featuresK" | "predictedQ" | "predictedK", Tensor>>,
  scale: number,
  into: { readonly q: Tensor; readonly k: Tensor },
  only?: Tensor,
): void {
  const { featuresQ, featuresK, predictedQ, predictedK } = scored;
  gpu.scope(() => {
    const dq = matmul(gpu, gradient, predictedK, { scale, only });
    const dk = matmul(gpu, gradient, predictedQ, { scale, only, transposeA: true });
    matmul(gpu, featuresQ, dq, { transposeA: true, only, into: into.q });
    matmul(gpu, featuresK, dk, { transposeA: true, only, into: into.k });
  });
}
