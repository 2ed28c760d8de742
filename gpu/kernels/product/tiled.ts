/**
 * Products by ordinary multiply-adds. Both operands are staged in groups of four rows, so that the inner step is an
 * outer product: one vec4 of sums += one number of x · a vec4 of w.
 *
 * @module
 */
import { unroll } from "../../kernel.ts";
import { F16_MAX } from "../../clamps.ts";
import { type Product, TILE_ORDER } from "./product.ts";

/** How a workgroup shares a tile of outputs. */
export interface Tile {
  /** The number of threads along m, a multiple of 4, and along n, a multiple of 8. */
  readonly threads: readonly [m: number, n: number];
  /** The number of outputs of a thread along m and n; multiples of 4. */
  readonly outputs: readonly [m: number, n: number];
  /** The length of the inner axis that is staged at once: 8, 16 or 32. */
  readonly depth: number;
  /** Whether a step's operands are read while those of the previous one are multiplied, at the cost of registers. */
  readonly ahead: boolean;
  /** Double buffering: one tile is staged while the other is still multiplied. That saves one barrier per step. */
  readonly twice?: true;
}

/** The format in which a tile is staged and multiplied. The final sums are always f32. */
export type TileFormat = "f32" | {
  /**
   * With f16 operands: how many products along the inner axis are summed in f16 before the sum is converted to f32; 0
   * converts each operand. A sum in f16 past 65504 becomes infinite, while single operands are clamped.
   */
  readonly stretch: 0 | 8 | 16 | 32;
};

/** How a kernel multiplies by ordinary arithmetic. */
export interface TiledBy {
  readonly tile: Tile;
  readonly format: TileFormat;
}

/** How a product with vec4 elements converts what it read of w to four rows of four along the inner axis. */
export interface TiledProduct extends Product {
  /** WGSL: converts an element of w, as it was read, to a vec4f. */
  unpack(element: string): string;
  /**
   * Whether the four elements of w that a thread reads for a group are already along n, one for each position of the
   * inner axis.
   */
  readonly transposed?: boolean;
  /**
   * Counts the numbers of x that f16 cannot hold by `note_clamped`, which must be declared. Each is counted once,
   * however many tiles read it.
   */
  readonly counted?: boolean;
}

/** The outputs of a workgroup along m and n. */
export function tileSize({ threads, outputs }: Tile): readonly [m: number, n: number] {
  return [threads[0] * outputs[0], threads[1] * outputs[1]];
}

/** The invocations of a workgroup. */
export function tileThreads({ threads }: Tile): number {
  return threads[0] * threads[1];
}

/** The bytes of workgroup memory that a tile uses. */
export function tileBytes(tile: Tile, format: TileFormat): number {
  const [m, n] = tileSize(tile);
  return (tile.twice ? 2 : 1) * (m + n) * (tile.depth + 1) * (format === "f32" ? 4 : 2);
}

/** A short name of a tile, for the names of kernels and variants. */
export function tileName(tile: Tile, format: TileFormat): string {
  const { outputs, depth, ahead, twice } = tile;
  const options = `${ahead ? "_ahead" : ""}${twice ? "_twice" : ""}${format === "f32" ? "" : `_f16_${format.stretch}`}`;
  return `${tileSize(tile).join("x")}_${outputs.join("x")}_${depth}${options}`;
}

/** The parts of a kernel that a tiled product supplies. */
export function tiledProduct(tile: Tile, format: TileFormat, product: TiledProduct) {
  const { threads, depth, ahead, twice } = tile, { loader } = product;
  const [tileM, tileN] = tileSize(tile), buffers = twice ? 2 : 1;
  const { f16, vec, stretch, groupsM, groupsN, each } = layoutOf(tile, format);
  const { perRow, x, w, read, stage } = staging(tile, format, product);
  return {
    f16,
    workgroupSize: [tileThreads(tile), 1, 1] as const,
    // Groups are padded by one, so that neighbours lie in different banks.
    declarations: `
var<workgroup> xs: array<array<${vec}, ${depth + 1}>, ${buffers * tileM / 4}>;
var<workgroup> ws: array<array<${vec}, ${depth + 1}>, ${buffers * tileN / 4}>;`,
    // 32 neighbouring threads hold 4×8 squares of outputs: that arrangement reads the fewest numbers.
    body: `${TILE_ORDER}
  let m0 = wid_m * ${tileM}u;
  let n0 = wid_n * ${tileN}u;
  let square = li / 32u;
  let thread_n = square % ${threads[1] / 8}u * 8u + li % 8u;
  let thread_m = square / ${threads[1] / 8}u * 4u + li % 32u / 8u;
${unroll(groupsM, (i) => `  let xg${i} = thread_m + ${i * threads[0]}u;`)}
${unroll(groupsN, (j) => `  let wg${j} = thread_n + ${j * threads[1]}u;`)}
${each((row, j) => `  var c${row}_${j} = vec4f();${stretch ? ` var h${row}_${j} = vec4h();` : ""}`)}
${unroll(4 * x.each, (i) => `  var x${i}: ${product.elements[0]};`)}
${unroll(4 * w.each, (i) => `  var w${i}: ${product.elements[1]};`)}
  let from_last = ${tileThreads(tile) - 1}u - li;
  let x_at = li % ${perRow}u;
  let w_at = from_last % ${perRow}u;
${loader.begin(x.rows, w.rows)}
${ahead ? read : ""}
  for (var done = 0u; done < ${loader.steps}; done++) {
${ahead ? "" : read}
${twice ? "" : "    workgroupBarrier();"}
${stage}
    workgroupBarrier();
${loader.next(4 * x.each)}
${ahead ? read : ""}
${multiply(tile, format)}
  }
${each((row, j) => product.store(`m0 + 4u * xg${row >> 2} + ${row & 3}u`, `n0 + 4u * wg${j}`, `c${row}_${j}`))}`,
  };
}

/** The numbers that follow from a tile and its format. */
function layoutOf({ outputs }: Tile, format: TileFormat) {
  const f16 = format !== "f32", groupsM = outputs[0] / 4, groupsN = outputs[1] / 4;
  return {
    ...{ f16, vec: f16 ? "vec4h" : "vec4f", stretch: f16 ? format.stretch : 0 },
    /** The number of groups of four rows of x and of w that a thread multiplies. */
    ...{ groupsM, groupsN },
    /** Repeats WGSL for each row of a thread's outputs and each group of four in it. */
    each: (visit: (row: number, j: number) => string) =>
      unroll(outputs[0], (row) => unroll(groupsN, (j) => visit(row, j))),
  };
}

/** WGSL: the offset of the tile in use, where there are two. */
const bufferOf = (tile: Tile, of: "xs" | "ws") =>
  tile.twice ? `done % 2u * ${tileSize(tile)[of === "xs" ? 0 : 1] / 4}u + ` : "";

/** How a step's operands get into workgroup memory. */
function staging(tile: Tile, format: TileFormat, product: TiledProduct) {
  const { f16, vec } = layoutOf(tile, format), { loader } = product;
  const count = tileThreads(tile), perRow = tile.depth / 4, [tileM, tileN] = tileSize(tile);
  // Threads take groups of x from the first one up, and of w from the last one down. Where there are fewer groups than
  // threads, most threads still have work.
  const side = (height: number, thread: string) => {
    const groups = height / 4 * perRow, each = Math.ceil(groups / count);
    const group = (i: number) => `(${thread} / ${perRow}u + ${i * count / perRow}u)`;
    const rows = Array.from({ length: 4 * each }, (_, i) => `4u * ${group(i >> 2)} + ${i & 3}u`);
    const guard = (i: number, code: string) =>
      (i + 1) * count > groups ? `    if (${thread} + ${i * count}u < ${groups}u) {\n${code}\n    }` : code;
    return { rows, each, group, guard };
  };
  const x = side(tileM, "li"), w = side(tileN, "from_last");
  const xValue = (i: number) => {
    const type = product.elements[0], value = `select(${type}(), x${i}, ${loader.inside(i)})`;
    return f16 && type === "vec4f" ? `clamp(${value}, vec4f(-${F16_MAX}.0), vec4f(${F16_MAX}.0))` : value;
  };
  // Clamping is rare, so four rows are tested together.
  const note = (i: number) => {
    if (!f16 || !product.counted) return "";
    const [a, b, c, d] = [0, 1, 2, 3].map((r) => `abs(x${4 * i + r})`);
    const each = unroll(4, (r) => {
      const row = 4 * i + r;
      return `        if (m0 + ${x.rows[row]} < p.m && ${loader.inside(row)}) { note_clamped(x${row}); }`;
    });
    return `
      if (wid_n == 0u && any(max(max(${a}, ${b}), max(${c}, ${d})) > vec4f(${F16_MAX}.0))) {
${each}
      }`;
  };
  // Transposes four rows of four numbers along the inner axis to four positions of four rows.
  const transposed = (c: number) => `${vec}(${[0, 1, 2, 3].map((r) => `v${r}.${"xyzw"[c]}`).join(", ")})`;
  const stage = (to: "xs" | "ws", s: typeof x, value: (i: number) => string, transpose: boolean) =>
    unroll(s.each, (i) => {
      const target = `${to}[${bufferOf(tile, to)}${s.group(i)}]`;
      return s.guard(
        i,
        `    {${to === "xs" ? note(i) : ""}
${unroll(4, (r) => `      let v${r} = ${vec}(${value(4 * i + r)});`)}
${unroll(4, (c) => `      ${target}[4u * ${to[0]}_at + ${c}u] = ${transpose ? transposed(c) : `v${c}`};`)}
    }`,
      );
    });
  return {
    /** The number of groups of four along the inner axis. */
    perRow,
    /** The rows of a thread's groups, and how many groups it stages. */
    ...{ x, w },
    read: [
      unroll(x.each, (i) => x.guard(i, unroll(4, (r) => `    x${4 * i + r} = ${loader.x(4 * i + r)};`))),
      unroll(w.each, (i) => w.guard(i, unroll(4, (r) => `    w${4 * i + r} = ${loader.w(4 * i + r)};`))),
    ].join("\n"),
    stage: `${stage("xs", x, xValue, true)}
${stage("ws", w, (i) => product.unpack(`w${i}`), !product.transposed)}`,
  };
}

/** Multiplies the staged operands: an outer product for each position of the inner axis. */
function multiply(tile: Tile, format: TileFormat): string {
  const { f16, stretch, groupsM, groupsN, each } = layoutOf(tile, format);
  const widen = f16 && !stretch ? "vec4f" : "";
  return unroll(tile.depth, (k) => {
    // The f16 sums start with the first product of a stretch and are added to the f32 sums after its last.
    const first = stretch && k % stretch === 0, last = stretch && (k + 1) % stretch === 0;
    const add = (row: number, j: number) => {
      const a = `${stretch ? "vec4h" : "vec4f"}(a${row >> 2}.${"xyzw"[row & 3]})`;
      if (!stretch) return `      c${row}_${j} = fma(${a}, b${j}, c${row}_${j});`;
      const sum = first ? `${a} * b${j}` : `fma(${a}, b${j}, h${row}_${j})`;
      return last ? `      c${row}_${j} += vec4f(${sum});` : `      h${row}_${j} = ${sum};`;
    };
    return `    {
${unroll(groupsM, (i) => `      let a${i} = ${widen}(xs[${bufferOf(tile, "xs")}xg${i}][${k}]);`)}
${unroll(groupsN, (j) => `      let b${j} = ${widen}(ws[${bufferOf(tile, "ws")}wg${j}][${k}]);`)}
${each(add)}
    }`;
  });
}
