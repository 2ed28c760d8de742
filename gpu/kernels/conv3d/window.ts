/**
 * Convolutions with a 3×3 kernel of stride 1 by matrix units. A workgroup computes a rectangle of pixels. It stages the
 * window of the input that all nine taps of the rectangle see, so each number is read once for nine taps. A row of the
 * matrix units' left operand is a pixel, and the operand of another tap begins a pixel or a row of pixels later.
 *
 * The inner axis runs over the frames of the kernel, over groups of channels, and over the taps. A step is a row of taps,
 * or one. The window is staged anew for each group of channels, the weights every step.
 *
 * Where the input is enlarged, two of three neighbouring taps see the same number. Which two depends on whether the
 * output's position is even: its _phase_. Each phase is a convolution of two taps along that axis, one of whose weights
 * is a sum of two. A workgroup computes one phase: every second pixel of every second row.
 *
 * @module
 */
import { type KernelSource, read, unroll } from "../../kernel.ts";
import type { MatrixUnits } from "../../matrix_units.ts";
import { memo } from "../memo.ts";
import { stagedPosition } from "../product/matrix.ts";
import { CONV3D_BUFFERS, CONV3D_PARAMS, type Conv3dShape, inputFrame, shapeName } from "./shape.ts";
import { STORE } from "./store.ts";

/** How a workgroup shares a rectangle of pixels and their channels. */
export interface WindowTile {
  /** The width of the rectangle in products of the matrix units, each of which takes neighbouring pixels of a row. */
  readonly across: number;
  /** The number of subgroups along pixels and channels. */
  readonly subgroups: readonly [pixels: number, channels: number];
  /** The number of products that a subgroup computes along pixels, a multiple of `across`, and channels. */
  readonly units: readonly [pixels: number, channels: number];
  /** The number of products along the input channels that are staged at once. */
  readonly depth: number;
  /** Whether the weights of one tap are staged at once, or those of a row of taps. */
  readonly taps: "one" | "row";
  /** Whether a step's operands are read while those of the previous one are multiplied, at the cost of registers. */
  readonly ahead: boolean;
}

/** How a kernel multiplies the taps of a window. */
export interface WindowBy {
  readonly tile: WindowTile;
  readonly units: MatrixUnits;
  /** The factors by which the input is enlarged in height and width, and in time. */
  readonly up: 1 | 2;
  readonly upTime: 1 | 2;
}

/** The sizes that follow from a tile. */
export function windowSizes({ tile, units: unit, up, upTime }: WindowBy) {
  const { across, subgroups, units, depth } = tile;
  const columns = across * unit.m, rows = subgroups[0] * units[0] / across, channels = subgroups[1] * units[1] * unit.n;
  const eights = depth * unit.k / 8, side = up === 2 ? 2 : 3, taps = tile.taps === "row" ? side : 1;
  return {
    /** The rectangle of pixels, and the output channels. */
    ...{ rows, columns, channels },
    /** The edge of the kernel, the taps that are staged at once, and how often that makes all taps. */
    ...{ side, taps, groups: side * side / taps },
    /** The phases of a pixel and of a frame. */
    ...{ phases: up ** 2, framePhases: upTime },
    /** The row length of the window, and its pixels. */
    ...{ wide: columns + side - 1, window: (rows + side - 1) * (columns + side - 1) },
    /** Groups of eight channels that are staged at once. */
    eights,
    /** The distance between staged rows, in units of 16 bytes; padded, so that neighbours lie in different banks. */
    stride: eights + 1,
    /** The rows of weights that are staged at once. */
    weights: taps * channels,
    threads: subgroups[0] * subgroups[1] * unit.subgroup,
  };
}

/** The bytes of workgroup memory that a tile uses. Loads count whole rows from their start, so there is one row more. */
export function windowBytes(by: WindowBy): number {
  const { window, weights, stride } = windowSizes(by);
  return 16 * stride * (window + weights + 1);
}

/** The same with as few pixels to a workgroup as it can have. It reads the same weights. */
export function fewerPixels({ tile, ...by }: WindowBy): WindowBy {
  return { tile: { ...tile, units: [tile.across, tile.units[1]] }, ...by };
}

/** A short name of a tile, for the names of kernels and variants. */
export function windowName({ across, subgroups, units, depth, taps, ahead }: WindowTile): string {
  return `window_${across}_${subgroups.join("x")}_${units.join("x")}_${depth}_${taps}${ahead ? "_ahead" : ""}`;
}

/** The number of workgroups along frames, channels and rectangles of pixels. */
export function windowWorkgroups(
  by: WindowBy,
  { frames, height, width, channels }: Readonly<Record<"frames" | "height" | "width" | "channels", number>>,
): readonly [number, number, number] {
  const sizes = windowSizes(by);
  const rectangles = Math.ceil(height / by.up / sizes.rows) * Math.ceil(width / by.up / sizes.columns);
  return [frames, sizes.phases * Math.ceil(channels / sizes.channels), rectangles];
}

/**
 * Makes the kernel. x is f16 with a multiple of 8 channels, and the weights have the layout that
 * `window_weights.ts` writes.
 */
export const conv3dWindow = memo(
  ({ replicate, ...by }: Pick<Conv3dShape, "replicate"> & WindowBy): KernelSource => {
    const { tile, units: unit, up, upTime } = by, { across, subgroups, units, depth, ahead } = tile;
    const { rows, columns, channels, side, taps, groups, wide, window, eights, stride, weights, threads } = windowSizes(
      by,
    );
    const kernelFrames = upTime === 2 ? "2u" : "p.kernel_t";
    // Of the phase of an even frame, the first tap is the last frame before; of an odd one, the frame before the next.
    const frameAt = (dt: string) =>
      upTime === 2 ? `max((frame + 1u) / 2u + ${dt}, 1u) - 1u` : inputFrame(replicate, `(frame * p.stride_t + ${dt})`);
    const xCount = window * eights;
    const wCount = weights * eights, wEach = Math.ceil(wCount / threads);
    const guard = (i: number, count: number, code: string) =>
      (i + 1) * threads > count ? `if (li + ${i * threads}u < ${count}u) { ${code} }` : code;
    // The window's pixels need not be a multiple of eight.
    const guardX = (i: number, code: string) =>
      (i + 1) * threads > xCount || window % 8 !== 0 ? `if (row${i} < ${window}u) { ${code} }` : code;
    const xSlots = Math.ceil(Math.ceil(window / 8) * 8 * eights / threads);
    const locate = (i: number) => {
      const [row, place] = stagedPosition(eights, `(li + ${i * threads}u)`);
      const u = `i32(left + phase % ${up}u + row${i} % ${wide}u) - 1`;
      const v = `i32(top + phase / ${up}u + row${i} / ${wide}u) - 1`;
      return `  let row${i} = ${row};
  let eight${i} = ${place};
  let slot${i} = row${i} * ${stride}u + eight${i};
  var at${i} = 0u;
  var inside${i} = ${replicate ? "true" : "false"};
  {
    ${
        replicate
          ? `let u = clamp(${u}, 0, i32(p.width_in) - 1);
    let v = clamp(${v}, 0, i32(p.height_in) - 1);`
          : `let u = ${u};
    let v = ${v};
    inside${i} = u32(u) < p.width_in && u32(v) < p.height_in;`
      }
    at${i} = select(0u, (u32(v) * p.width_in + u32(u)) * c8 + eight${i}, inside${i});
  }`;
    };
    const readX = unroll(
      xSlots,
      (i) =>
        guardX(
          i,
          `x${i} = select(vec4u(), x[frame_at + min(at${i} + first, plane - 1u)], inside${i} && first + eight${i} < c8);`,
        ),
    );
    const readW = unroll(wEach, (i) => guard(i, wCount, `w${i} = weight[w_at + ${i * threads}u];`));
    const stageX = unroll(xSlots, (i) => guardX(i, `staged[slot${i}] = x${i};`));
    const stageW = unroll(wEach, (i) => {
      const [row, place] = stagedPosition(eights, `(li + ${i * threads}u)`);
      return guard(i, wCount, `staged[${window * stride}u + ${row} * ${stride}u + ${place}] = w${i};`);
    });
    const left = `subgroup_matrix_left<f16, ${unit.k}, ${unit.m}>`;
    const right = `subgroup_matrix_right<f16, ${unit.n}, ${unit.k}>`;
    const each = (visit: (i: number, j: number) => string) =>
      unroll(units[0], (i) => unroll(units[1], (j) => visit(i, j)));
    /** The place of a subgroup's i-th product among staged pixels, from its first one's. */
    const pixelOf = (i: number) => (Math.floor(i / across) * wide + i % across * unit.m) * stride;
    const multiply = unroll(taps, (tap) =>
      unroll(depth, (k) =>
        `    {
${
          unroll(units[0], (i) =>
            `      let l${i} = subgroupMatrixLoad<${left}, row_major>(&staged, x_tap + ${
              pixelOf(i) + tap * stride + k * unit.k / 8
            }u, ${stride}u);`)
        }
${
          unroll(units[1], (j) =>
            `      let r${j} = subgroupMatrixLoad<${right}, col_major>(&staged, w_staged + ${
              (tap * channels + j * unit.n) * stride + k * unit.k / 8
            }u, ${stride}u);`)
        }
${each((i, j) => `      c${i}_${j} = subgroupMatrixMultiplyAccumulate(l${i}, r${j}, c${i}_${j});`)}
    }`));
    return {
      name: `conv3d_${windowName(tile)}_${shapeName({ stride: 1, up, replicate })}${upTime === 2 ? "_doubled" : ""}`,
      matrix: true,
      buffers: { ...CONV3D_BUFFERS, x: read("vec4u"), weight: read("vec4u") },
      params: CONV3D_PARAMS,
      workgroupSize: [threads, 1, 1],
      declarations: `${STORE}
var<workgroup> staged: array<vec4u, ${windowBytes(by) / 16}>;`,
      body: `  let frame = wid.x;
  let tiles_n = nwg.y / ${up ** 2}u;
  let phase = wid.y / tiles_n;
  let n0 = wid.y % tiles_n * ${channels}u;
  let tiles_x = (p.width / ${up}u + ${columns - 1}u) / ${columns}u;
  let top = wid.z / tiles_x * ${rows}u;
  let left = wid.z % tiles_x * ${columns}u;
  let subgroup = li / ${unit.subgroup}u;
  let subgroup_m = subgroup / ${subgroups[1]}u;
  let subgroup_n = subgroup % ${subgroups[1]}u;
  let x_staged = subgroup_m * ${pixelOf(units[0])}u;
  let w_staged = ${window * stride}u + subgroup_n * ${units[1] * unit.n * stride}u;
  let c8 = p.c4 / 2u;
  let plane = p.height_in * p.width_in * c8;
${each((i, j) => `  var c${i}_${j}: subgroup_matrix_result<f32, ${unit.n}, ${unit.m}>;`)}
${unroll(xSlots, (i) => `  var x${i}: vec4u;`)}
${unroll(wEach, (i) => `  var w${i}: vec4u;`)}
${unroll(xSlots, locate)}
  let blocks = (c8 + ${eights - 1}u) / ${eights}u;
  let steps = ${kernelFrames} * blocks * ${groups}u;
  var first = 0u;
  var dt = 0u;
  var group = 0u;
  var frame_at = (${frameAt("0u")}) * plane;
  var w_at = (frame % ${upTime}u * nwg.y + wid.y) * steps * ${wCount}u + li;
${ahead ? `${readX}\n${readW}` : ""}
  for (var done = 0u; done < steps; done++) {
${ahead ? "" : `    if (group == 0u) {\n${readX}\n    }\n${readW}`}
    workgroupBarrier();
    if (group == 0u) {
${stageX}
    }
${stageW}
    workgroupBarrier();
    let x_tap = x_staged + ${
        taps > 1 ? `group * ${wide * stride}u` : `(group / ${side}u * ${wide}u + group % ${side}u) * ${stride}u`
      };
    group++;
    if (done + 1u < steps) { w_at += ${wCount}u; }
    if (group == ${groups}u) {
      group = 0u;
      first += ${eights}u;
      if (first >= c8) {
        first = 0u;
        dt = min(dt + 1u, ${kernelFrames} - 1u);
        frame_at = (${frameAt("dt")}) * plane;
      }
${ahead ? readX : ""}
    }
${ahead ? readW : ""}
${multiply}
  }
${storeSums(by)}`,
    };
  },
);

/**
 * Hands the sums to `store`. WGSL cannot read single numbers of a matrix, so a subgroup's sums pass through the staging
 * area, in strips of products, each as wide as fits.
 */
function storeSums(by: WindowBy): string {
  const { tile, units: unit, up } = by, { across, subgroups, units } = tile, area = windowBytes(by) / 16;
  const count = subgroups[0] * subgroups[1];
  const strip = Array.from({ length: units[1] }, (_, i) => units[1] - i).find((wide) =>
    units[1] % wide === 0 && (count * unit.m + 1) * wide * unit.n / 4 <= area
  )!;
  const wide = strip * unit.n / 4, vectors = unit.m * wide;
  const storeStrip = (i: number, s: number) =>
    `  workgroupBarrier();
${
      unroll(
        strip,
        (j) =>
          `  subgroupMatrixStore<row_major>(&staged, mine + ${j * unit.n / 4}u, c${i}_${s * strip + j}, ${wide}u);`,
      )
    }
  workgroupBarrier();
  for (var at = li % ${unit.subgroup}u; at < ${vectors}u; at += ${unit.subgroup}u) {
    let row = (top + subgroup_m * ${units[0] / across}u + ${Math.floor(i / across)}u) * ${up}u + phase / ${up}u;
    let column = (left + ${i % across * unit.m}u + at / ${wide}u) * ${up}u + phase % ${up}u;
    if (row < p.height && column < p.width) {
      store((frame * p.height + row) * p.width + column, n0 + subgroup_n * ${units[1] * unit.n}u + ${
      s * strip * unit.n
    }u + at % ${wide}u * 4u, bitcast<vec4f>(staged[mine + at]));
    }
  }`;
  return `  let mine = subgroup * ${vectors}u;
${unroll(units[0], (i) => unroll(units[1] / strip, (s) => storeStrip(i, s)))}`;
}
