/**
 * The heat of attention between tiles, by matrix units: what `heat.ts` computes, with operands in f16 and sums in f32. A
 * workgroup holds some queries of a tile and loops over all key tiles. Scores pass through workgroup memory.
 *
 * @module
 */
import { type KernelSource, read, u32s, unroll, write } from "../../kernel.ts";
import type { MatrixUnits } from "../../matrix_units.ts";
import { chosenHead, HEAD_PARAMS } from "../chosen_heads.ts";
import { memo } from "../memo.ts";
import { perElement } from "../per_element.ts";

/** How a workgroup shares its work: subgroups side by side, the queries of each, and the keys of a step. */
export interface HeatTile {
  readonly units: MatrixUnits;
  readonly subgroups: number;
  readonly rows: number;
  readonly step: number;
}

/** The number of queries of a workgroup. */
export const heatRows = ({ subgroups, rows }: Pick<HeatTile, "subgroups" | "rows">): number => subgroups * rows;

/** Whether the shape of the units divides a tile. */
export function heatFits({ units: { m, n, k, subgroup }, rows, step }: HeatTile, headDim: number): boolean {
  const sides = [[rows, m], [step, n], [headDim, k], [headDim, 8], [rows, subgroup / 2], [step, 8]];
  return sides.every(([length, side]) => length! % side! === 0);
}

/** Sizes in workgroup memory, in units of 16 bytes. */
const wideOf = (headDim: number) => headDim / 8 + 1, scoreWideOf = (step: number) => step / 4 + 1;

/** The bytes of workgroup memory that a tile takes. */
export const heatBytes = (tile: HeatTile, headDim: number): number =>
  16 * (tile.step * wideOf(headDim) + heatRows(tile) * scoreWideOf(tile.step));

/**
 * Makes the kernel. Operands are packed as by `backward_pack.ts`, queries times scale · log₂ e. Each subgroup writes what
 * its queries have with each key tile; {@link heatSums} adds these up.
 */
export const heatMatrix = memo(
  ({ headDim, tile }: { readonly headDim: number; readonly tile: HeatTile }): KernelSource => {
    const { units: { m, n, k, subgroup }, subgroups, rows, step } = tile;
    const per = headDim / 8, wide = wideOf(headDim), scoreWide = scoreWideOf(step), threads = subgroups * subgroup;
    const bands = rows / m, across = step / n, atOnce = subgroup / 2, rounds = rows / atOnce, fours = step / 8;
    const left = `subgroup_matrix_left<f16, ${k}, ${m}>`, right = `subgroup_matrix_right<f16, ${n}, ${k}>`;
    const result = `subgroup_matrix_result<f32, ${n}, ${m}>`, count = step * per, share = Math.ceil(count / threads);
    const each = (line: (i: number, row: string, part: string) => string) =>
      unroll(share, (i) => {
        const at = `(li + ${i * threads}u)`, code = line(i, `(${at} / ${per}u)`, `${at} % ${per}u`);
        return (i + 1) * threads <= count ? `    ${code}` : `    if (${at} < ${count}u) { ${code} }`;
      });
    const readKeys = (of: string, at: string) =>
      each((i, row, part) =>
        `next${i} = k[(packed + ${of}.x + min(${at} + ${row}, ${of}.y - 1u)) * ${per}u + ${part}];`
      );
    const stage = each((i, row, part) => `staged[${row} * ${wide}u + ${part}] = next${i};`);
    const row = (r: number) => `(${r * atOnce}u + lane % ${atOnce}u)`;
    return {
      name: `tile_heat_matrix_${headDim}_${subgroups}x${rows}x${step}`,
      matrix: true,
      buffers: {
        /** [batch · chosen heads, slots, head dim], f16 */
        ...{ q: read("vec4u"), k: read("vec4u") },
        ...{ lse: read("f32"), order: read("u32"), tiles: read("vec2u"), head_ids: read("u32") },
        /** [batch · chosen heads, tiles, tiles, subgroups of all parts of a tile] */
        y: write("vec2f"),
      },
      params: { ...HEAD_PARAMS, ...u32s("tokens", "slots", "tiles", "parts") },
      workgroupSize: [threads, 1, 1],
      declarations: `var<workgroup> staged: array<vec4u, ${step * wide}>;
var<workgroup> scores: array<vec4u, ${subgroups * rows * scoreWide}>;`,
      body: `  let batch = wid.z / p.chosen;
${chosenHead("h", "wid.z % p.chosen")}
  let mine = tiles[wid.y];
  let first = wid.x * ${subgroups * rows}u;
  if (first >= mine.y) { return; }
  let lane = li % ${subgroup}u;
  let own = li / ${subgroup}u * ${rows}u;
  let packed = wid.z * p.slots;
${
        unroll(bands, (b) =>
          unroll(headDim / k, (d) =>
            `  let x${b}_${d} = subgroupMatrixLoad<${left}, row_major>(&q, (packed + mine.x + first + own + ${
              b * m
            }u) * ${per}u + ${d * k / 8}u, ${per}u);`))
      }
${
        unroll(
          rounds,
          (r) =>
            `  let inside${r} = first + own + ${row(r)} < mine.y;
  let lse${r} = ${Math.LOG2E} * lse[(batch * p.tokens + order[mine.x + min(first + own + ${
              row(r)
            }, mine.y - 1u)]) * p.heads + h];`,
        )
      }
  var top = 0.0;
  var sum = 0.0;
${unroll(share, (i) => `  var next${i}: vec4u;`)}
  var tile = 0u;
  var other = tiles[0];
  var at = 0u;
${readKeys("other", "at")}
${stage}
  workgroupBarrier();
  loop {
    var next_tile = tile;
    var next_other = other;
    var next_at = at + ${step}u;
    if (next_at >= other.y) {
      next_tile = tile + 1u;
      next_other = tiles[min(next_tile, p.tiles - 1u)];
      next_at = 0u;
    }
${readKeys("next_other", "next_at")}
${unroll(bands, (b) => unroll(across, (i) => `    var s${b}_${i} = ${result}();`))}
${
        unroll(headDim / k, (d) =>
          unroll(across, (i) =>
            `    {
      let t = subgroupMatrixLoad<${right}, col_major>(&staged, ${i * n * wide + d * k / 8}u, ${wide}u);
${unroll(bands, (b) => `      s${b}_${i} = subgroupMatrixMultiplyAccumulate(x${b}_${d}, t, s${b}_${i});`)}
    }`))
      }
${
        unroll(
          bands,
          (b) =>
            unroll(across, (i) =>
              `    subgroupMatrixStore<row_major>(&scores, (own + ${b * m}u) * ${scoreWide}u + ${
                i * n / 4
              }u, s${b}_${i}, ${scoreWide}u);`),
        )
      }
    workgroupBarrier();
    // Two threads share a row.
    let column = lane / ${atOnce}u * ${step / 2}u;
${
        unroll(rounds, (r) =>
          unroll(fours, (i) =>
            `    {
      let s = bitcast<vec4f>(scores[(own + ${row(r)}) * ${scoreWide}u + lane / ${atOnce}u * ${fours}u + ${i}u]);
      let there = vec4u(at + column + ${4 * i}u) + vec4u(0u, 1u, 2u, 3u) < vec4u(other.y);
      let e = select(vec4f(), exp2(s - lse${r}), there & vec4<bool>(inside${r}));
      top = max(top, max(max(e.x, e.y), max(e.z, e.w)));
      sum += (e.x + e.y) + (e.z + e.w);
    }`))
      }
    if (next_tile != tile) {
      let highest = subgroupMax(top);
      let all = subgroupAdd(sum);
      if (lane == 0u) {
        let pair = (wid.z * p.tiles + wid.y) * p.tiles + tile;
        y[(pair * p.parts + wid.x) * ${subgroups}u + own / ${rows}u] = vec2f(highest, all);
      }
      top = 0.0;
      sum = 0.0;
    }
    if (next_tile == p.tiles) { break; }
    tile = next_tile;
    other = next_other;
    at = next_at;
${stage}
    workgroupBarrier();
  }`,
    };
  },
);

/** Makes the kernel that combines what the subgroups wrote: a thread does so for a pair of tiles. */
export const heatSums = memo(({ subgroups, rows }: Pick<HeatTile, "subgroups" | "rows">): KernelSource =>
  perElement({
    name: `tile_heat_sums_${subgroups}x${rows}`,
    buffers: {
      ...{ x: read("vec2f"), tiles: read("vec2u"), head_ids: read("u32") },
      /** [batch · heads, tiles, tiles] */
      ...{ y: write("f32"), total: write("f32") },
    },
    params: { ...HEAD_PARAMS, ...u32s("tiles", "parts") },
    body: `  let pairs = p.tiles * p.tiles;
  let batch = i / pairs / p.chosen;
${chosenHead("h", "i / pairs % p.chosen")}
  let queries = tiles[i / p.tiles % p.tiles].y;
  var top = 0.0;
  var sum = 0.0;
  for (var part = 0u; part * ${subgroups * rows}u < queries; part++) {
${
      unroll(
        subgroups,
        (s) =>
          `    { let found = x[(i * p.parts + part) * ${subgroups}u + ${s}u]; top = max(top, found.x); sum += found.y; }`,
      )
    }
  }
  let place = (batch * p.heads + h) * pairs + i % pairs;
  y[place] = top;
  total[place] = sum;`,
  })
);
