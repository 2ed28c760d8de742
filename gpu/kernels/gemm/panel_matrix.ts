/**
 * Products of panels (see `pack.ts`) by matrix units: of f16 with sums in f32, or of i8 with exact sums in i32.
 *
 * @module
 */
import { type KernelSource, unroll } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { TILE_ORDER } from "../product/product.ts";
import { GEMM_PARAMS, gemmBuffers, type HalfOutput, outputOf, scaledRows } from "./epilogue.ts";
import { type PanelBy, type PanelLayout, panelLayout, type PanelTile, panelTileName } from "./panel_tile.ts";

/** A variant of {@link gemmPanels}. */
export interface PanelGemm extends PanelBy {
  /** The form of the output. Default: f32 */
  readonly into?: HalfOutput | undefined;
}

/** The WGSL types of sums. */
const SUMS = { f16: "f32", i8: "i32" } as const;

/** Makes the kernel. k is a multiple of a group, n of 4. */
export const gemmPanels = memo((by: PanelGemm): KernelSource => {
  const { tile, units, numbers, into } = by, layout = panelLayout(by)!, { unit, threads, element } = layout;
  const sums = SUMS[numbers], [tileM, tileN] = layout.tile, { subgroups } = tile;
  const { read, stage, declare } = staging(layout), multiplied = multiply(by, layout);
  const output = outputOf(into);
  const other = tile.buffers === 2 ? `(${layout.staged}u - now)` : "now";
  return {
    name: `gemm_${panelTileName(tile, numbers)}${output.name}`,
    buffers: {
      ...gemmBuffers(`${element}`, `${element}`, "vec4f", output.y),
      ...numbers === "i8" && scaledRows.buffers,
      ...output.buffers,
    },
    params: GEMM_PARAMS,
    matrix: true,
    workgroupSize: [threads, 1, 1],
    declarations: `${output.epilogue}
var<workgroup> staged: array<${element}, ${layout.elements}>;`,
    body: `${TILE_ORDER}
  let m0 = wid_m * ${tileM}u;
  let n0 = wid_n * ${tileN}u;
  let subgroup = li / ${units.subgroup}u;
  let subgroup_m = subgroup / ${subgroups[1]}u * ${tile.units[0]}u;
  let subgroup_n = subgroup % ${subgroups[1]}u * ${tile.units[1]}u;
  let x_mine = subgroup_m * ${layout.panelRow}u;
  let w_mine = ${layout.wFirst}u + subgroup_n * ${layout.panelRow}u;
  let steps = (p.k4 * 4u + ${tile.depth * unit.k - 1}u) / ${tile.depth * unit.k}u;
  let x_first = wid_m * steps * ${tileM * layout.panelRow}u + li;
  let w_first = wid_n * steps * ${tileN * layout.panelRow}u + li;
${each(tile, (i, j) => `  var c${i}_${j}: subgroup_matrix_result<${sums}, ${unit.n}, ${unit.m}>;`)}
${declare}
  var step = 0u;
  var now = 0u;
${read}
${
      tile.buffers === 2
        ? `${stage("now")}
  step = min(1u, steps - 1u);
${read}
  workgroupBarrier();
  for (var done = 0u; done < steps; done++) {
${stage(other)}
    step = min(done + 2u, steps - 1u);
${read}
${multiplied}
    workgroupBarrier();
    now = ${other};
  }`
        : `  for (var done = 0u; done < steps; done++) {
    workgroupBarrier();
${stage("now")}
    workgroupBarrier();
    step = min(done + 1u, steps - 1u);
${read}
${multiplied}
  }`
    }
${storeSums(by, layout)}`,
  };
});

/** Repeats WGSL for each product of a subgroup. */
const each = ({ units }: PanelTile, visit: (i: number, j: number) => string) =>
  unroll(units[0], (i) => unroll(units[1], (j) => visit(i, j)));

/** How a step's panels get into workgroup memory. A thread takes the element of its index, and later ones. */
function staging({ threads, element, panelRow, strides, wFirst, tile: rows }: PanelLayout) {
  const side = (name: "x" | "w", axis: 0 | 1, first: number) => {
    const count = rows[axis] * panelRow, line = strides[axis] - 1, share = Math.ceil(count / threads);
    const all = (visit: (i: number) => string) =>
      unroll(
        share,
        (i) =>
          (i + 1) * threads > count ? `    if (li + ${i * threads}u < ${count}u) { ${visit(i)} }` : `    ${visit(i)}`,
      );
    const to = (i: number) =>
      threads % line === 0
        ? `li + li / ${line}u + ${first + i * (threads + threads / line)}u`
        : `li + (li + ${i * threads}u) / ${line}u + ${first + i * threads}u`;
    return {
      declare: unroll(share, (i) => `  var ${name}${i}: ${element};`),
      read: all((i) => `${name}${i} = ${name}[${name}_first + step * ${count}u + ${i * threads}u];`),
      stage: (buffer: string) => all((i) => `staged[${buffer} + ${to(i)}] = ${name}${i};`),
    };
  };
  const x = side("x", 0, 0), w = side("w", 1, wFirst);
  return {
    declare: `${x.declare}\n${w.declare}`,
    read: `${x.read}\n${w.read}`,
    stage: (buffer: string) => `${x.stage(buffer)}\n${w.stage(buffer)}`,
  };
}

/** Multiplies the operands that are staged at `now`. */
function multiply({ tile, numbers }: PanelBy, { unit, strides, panelRow, matrixRow }: PanelLayout): string {
  const left = `subgroup_matrix_left<${numbers}, ${unit.k}, ${unit.m}>, row_major`;
  const right = `subgroup_matrix_right<${numbers}, ${unit.n}, ${unit.k}>, col_major`;
  const load = (name: string, type: string, mine: string, at: number, stride: number) =>
    `      let ${name} = subgroupMatrixLoad<${type}>(&staged, now + ${mine} + ${at}u, ${stride}u);`;
  return unroll(tile.depth, (k) =>
    `    {
${unroll(tile.units[0], (i) => load(`l${i}`, left, "x_mine", i * panelRow + k * matrixRow, strides[0]))}
${unroll(tile.units[1], (j) => load(`r${j}`, right, "w_mine", j * panelRow + k * matrixRow, strides[1]))}
${each(tile, (i, j) => `      c${i}_${j} = subgroupMatrixMultiplyAccumulate(l${i}, r${j}, c${i}_${j});`)}
    }`);
}

/**
 * Hands the sums to the epilogue. WGSL cannot read single numbers of a matrix, so a subgroup's sums pass through the
 * staging area, in strips of products. A thread has the same columns in all rows of a strip. It reads all that it
 * needs before it writes, because a compiler must assume that a later read sees what was written.
 */
function storeSums({ tile, units, numbers }: PanelBy, layout: PanelLayout): string {
  const { unit, strip, stripStride, perGroup } = layout, wide = strip * unit.n / 4, rows = units.subgroup / wide;
  const each = (visit: (k: number) => string) => unroll(unit.m / rows, visit);
  const at = (j: number) => `${perGroup}u * (mine + ${j * unit.n / 4}u)`;
  const four = (k: number) => {
    const found = `from_mine + ${k * rows * stripStride}u`;
    return perGroup === 1 ? `staged[${found}]` : `vec4u(staged[2u * (${found})], staged[2u * (${found}) + 1u])`;
  };
  const row = (i: number, k: number) => `row + ${i * unit.m + k * rows}u`;
  const sums = (i: number, k: number) =>
    numbers === "f16"
      ? `bitcast<vec4f>(${four(k)})`
      : `x_scale[min(${row(i, k)}, p.m - 1u)] * vec4f(bitcast<vec4i>(${four(k)}))`;
  const storeStrip = (i: number, s: number) =>
    `  workgroupBarrier();
${
      unroll(
        strip,
        (j) =>
          `  subgroupMatrixStore<row_major>(&staged, ${at(j)}, c${i}_${s * strip + j}, ${perGroup * stripStride}u);`,
      )
    }
  workgroupBarrier();
  {
${each((k) => `    let sums${k} = ${sums(i, k)};`)}
${each((k) => `    store_in(${row(i, k)}, columns, sums${k});`)}
  }`;
  return `  let lane = li % ${units.subgroup}u;
  let mine = subgroup * ${unit.m * stripStride}u;
  let from_mine = mine + lane / ${wide}u * ${stripStride}u + lane % ${wide}u;
  let row = m0 + subgroup_m * ${unit.m}u + lane / ${wide}u;
${
    unroll(tile.units[1] / strip, (s) =>
      `  {
  let columns = columns_at(n0 + (subgroup_n + ${s * strip}u) * ${unit.n}u + lane % ${wide}u * 4u);
${unroll(tile.units[0], (i) => storeStrip(i, s))}
  }`)
  }`;
}
