/**
 * Products of panels (see `pack.ts`) by matrix units: of f16 with sums in f32, or of i8 with exact sums in i32.
 *
 * @module
 */
import { type KernelSource, unroll } from "../../kernel.ts";
import { memo } from "../memo.ts";
import { TILE_ORDER } from "../product/product.ts";
import {
  buffersOfWeights,
  byWeight,
  GEMM_PARAMS,
  gemmBuffers,
  ofWeight,
  type Output,
  outputOf,
  scaledRows,
} from "./epilogue.ts";
import { type PanelBy, type PanelLayout, panelLayout, type PanelTile, panelTileName } from "./panel_tile.ts";

/** A variant of {@link gemmPanels}. */
export interface PanelGemm extends PanelBy {
  readonly output: Output;
}

/** The WGSL types of sums. */
const SUMS = { f16: "f32", i8: "i32" } as const;

/** Makes the kernel. k is a multiple of a group, n of 4. */
export const gemmPanels = memo((by: PanelGemm): KernelSource => {
  const { tile, units, numbers } = by, layout = panelLayout(by)!, { unit, threads, element } = layout;
  const sums = SUMS[numbers], [tileM, tileN] = layout.tile, { subgroups } = tile;
  const output = outputOf(by.output), { ofWeights } = by.output, weights = ofWeights?.length ?? 1;
  const { declare, readStep, stage } = staging(layout, weights);
  return {
    name: `gemm_${panelTileName(tile, numbers)}${output.name}`,
    buffers: {
      ...ofWeights ? buffersOfWeights(element, element, ofWeights) : gemmBuffers(element, element, "vec4f", output.y),
      ...numbers === "i8" && scaledRows.buffers,
      ...output.buffers,
    },
    params: GEMM_PARAMS,
    matrix: true,
    workgroupSize: [threads, 1, 1],
    declarations: `${weights > 1 ? "var<private> weight: u32;" : ""}
${output.epilogue}
var<workgroup> staged: array<${element}, ${layout.elements}>;`,
    body: `${TILE_ORDER}
${
      // Tiles of several weights lie side by side.
      weights > 1
        ? `  let tiles_n = nwg.x / ${weights}u;
  let of_weight = wid_n / tiles_n;
  let tile_n = wid_n % tiles_n;
  weight = of_weight;`
        : "  let tile_n = wid_n;"}
  let m0 = wid_m * ${tileM}u;
  let n0 = tile_n * ${tileN}u;
  let subgroup = li / ${units.subgroup}u;
  let subgroup_m = subgroup / ${subgroups[1]}u * ${tile.units[0]}u;
  let subgroup_n = subgroup % ${subgroups[1]}u * ${tile.units[1]}u;
  let x_mine = subgroup_m * ${layout.panelRow}u;
  let w_mine = ${layout.wFirst}u + subgroup_n * ${layout.panelRow}u;
  let steps = (p.k4 * 4u + ${tile.depth * unit.k - 1}u) / ${tile.depth * unit.k}u;
${each(tile, (i, j) => `  var c${i}_${j}: subgroup_matrix_result<${sums}, ${unit.n}, ${unit.m}>;`)}
${declare}
${readStep("0u")}
  for (var done = 0u; done < steps; done++) {
    workgroupBarrier();
${stage}
    workgroupBarrier();
    // The branch is always taken. Without it, compilers move these reads behind the products, to where they are used.
    if (p.m != 0u) {
${readStep("min(done + 1u, steps - 1u)")}
    }
${multiply(by, layout)}
  }
${storeSums(by, layout)}`,
  };
});

/** Repeats WGSL for each product of a subgroup. */
const each = ({ units }: PanelTile, visit: (i: number, j: number) => string) =>
  unroll(units[0], (i) => unroll(units[1], (j) => visit(i, j)));

/**
 * How a step's panels get into workgroup memory. Threads share a line, which is the same row of each matrix. So each
 * stages to constant distances, which cost no arithmetic.
 */
function staging({ threads, unit, element, panelRow, strides, wFirst, tile: rows }: PanelLayout, weights: number) {
  const side = (name: "x" | "w", axis: 0 | 1, lines: number, first: number) => {
    const line = rows[axis] / lines * panelRow, lanes = threads / lines, share = Math.ceil(line / lanes);
    const all = (visit: (i: number) => string) =>
      unroll(
        share,
        (i) =>
          (i + 1) * lanes > line
            ? `    if (${name}_lane + ${i * lanes}u < ${line}u) { ${visit(i)} }`
            : `    ${visit(i)}`,
      );
    return {
      declare: `  let ${name}_lane = li % ${lanes}u;
  let ${name}_first = ${["wid_m", "tile_n"][axis]} * steps * ${
        lines * line
      }u + li / ${lanes}u * ${line}u + ${name}_lane;
  let ${name}_staged = ${first}u + li / ${lanes}u * ${strides[axis]}u + ${name}_lane;
${unroll(share, (i) => `  var ${name}${i}: ${element};`)}`,
      read: (step: string) => {
        const from = (buffer: string) =>
          all((i) => `${name}${i} = ${buffer}[${name}_first + ${step} * ${lines * line}u + ${i * lanes}u];`);
        return name === "w" && weights > 1 ? byWeight(weights, "of_weight", (i) => from(ofWeight("w", i))) : from(name);
      },
      stage: all((i) => `staged[${name}_staged + ${i * lanes}u] = ${name}${i};`),
    };
  };
  const x = side("x", 0, unit.m, 0), w = side("w", 1, unit.n, wFirst);
  return {
    declare: `${x.declare}\n${w.declare}`,
    readStep: (step: string) => `${x.read(step)}\n${w.read(step)}`,
    stage: `${x.stage}\n${w.stage}`,
  };
}

/** WGSL that loads the i-th matrix of x, or the j-th of w, at the k-th place of the inner axis of what is staged. */
function loads({ numbers }: PanelBy, { unit, strides, panelRow, matrixRow }: PanelLayout) {
  const left = `subgroup_matrix_left<${numbers}, ${unit.k}, ${unit.m}>, row_major`;
  const right = `subgroup_matrix_right<${numbers}, ${unit.n}, ${unit.k}>, col_major`;
  const load = (type: string, mine: string, stride: number) => (at: number, k: number) =>
    `subgroupMatrixLoad<${type}>(&staged, ${mine} + ${at * panelRow + k * matrixRow}u, ${stride}u)`;
  return { left: load(left, "x_mine", strides[0]), right: load(right, "w_mine", strides[1]) };
}

/** Multiplies the staged operands. */
function multiply(by: PanelBy, layout: PanelLayout): string {
  const { tile } = by, { left, right } = loads(by, layout);
  return unroll(tile.depth, (k) =>
    `    {
${unroll(tile.units[0], (i) => `      let l${i} = ${left(i, k)};`)}
${unroll(tile.units[1], (j) => `      let r${j} = ${right(j, k)};`)}
${each(tile, (i, j) => `      c${i}_${j} = subgroupMatrixMultiplyAccumulate(l${i}, r${j}, c${i}_${j});`)}
    }`);
}

/**
 * Hands the sums to the epilogue. WGSL cannot read single numbers of a matrix, so a subgroup's sums pass through the
 * staging area, in strips of products. A thread has the same columns in all rows of a strip.
 */
function storeSums({ tile, units, numbers }: PanelBy, layout: PanelLayout): string {
  const { unit, strip, stripStride, perGroup } = layout, wide = strip * unit.n / 4;
  const at = (j: number) => `${perGroup}u * (mine + ${j * unit.n / 4}u)`;
  // Rows that the subgroup takes at once, and such steps that are taken together: they wait for memory once.
  const rows = units.subgroup / wide, together = Math.min(4, unit.m / rows);
  const found = (t: number) => `mine + (at + ${t * rows}u) * ${stripStride}u + lane % ${wide}u`;
  const four = (t: number) =>
    perGroup === 1 ? `staged[${found(t)}]` : `vec4u(staged[2u * (${found(t)})], staged[2u * (${found(t)}) + 1u])`;
  const sums = (t: number) =>
    numbers === "f16" ? `bitcast<vec4f>(${four(t)})` : `scale${t} * vec4f(bitcast<vec4i>(${four(t)}))`;
  // A loop, because the epilogue is long: unrolled, it takes compilers ten times as long.
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
  for (var at = lane / ${wide}u; at < ${unit.m}u; at += ${together * rows}u) {
    let row = m0 + (subgroup_m + ${i}u) * ${unit.m}u + at;
${unroll(together, (t) => `    var added${t} = vec4f();`)}
    if (p.has_residual != 0u) {
${unroll(together, (t) => `      added${t} = residual_at(row + ${t * rows}u, columns);`)}
    }
${numbers === "f16" ? "" : unroll(together, (t) => `    let scale${t} = x_scale[min(row + ${t * rows}u, p.m - 1u)];`)}
${unroll(together, (t) => `    let sum${t} = ${sums(t)};`)}
${unroll(together, (t) => `    let v${t} = finished(row + ${t * rows}u, columns, sum${t}, added${t});`)}
${unroll(together, (t) => `    put(row + ${t * rows}u, columns, v${t});`)}
  }`;
  return `  let lane = li % ${units.subgroup}u;
  let mine = subgroup * ${unit.m * stripStride}u;
${
    unroll(tile.units[1] / strip, (s) =>
      `  {
  let columns = columns_at(n0 + (subgroup_n + ${s * strip}u) * ${unit.n}u + lane % ${wide}u * 4u);
${unroll(tile.units[0], (i) => storeStrip(i, s))}
  }`)
  }`;
}
