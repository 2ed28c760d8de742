/**
 * Veda's data for a model, in one safetensors file: a trained scorer, the shapes of tiles, or both.
 *
 * - for each layer, behind the prefix of its tensors' names such as `blocks.N.`, `tiles.project_q` and
 *   `tiles.project_k`: [heads, 3 · head dim, head dim]
 * - `tiles.shapes`: [shapes, 3], I32: tokens along frames, rows and columns
 * - `tiles.choices`: [layers, heads], U8: the index of each head's shape
 * - `tiles.budgets`: [layers, heads], F32: the budget of each head, as a multiple of the share to keep
 * - in the metadata, under `tiles`, JSON: `tile_tokens`, and where they are known `target` and `keep`; `count` and
 *   `second_order` are true where these terms are added to the products of vectors, see `ScoreTerms`
 *
 * A file may hold such data for clips of several sizes: then the metadata has a `grid`, the tokens along frames, rows and
 * columns, and `others`, a list with the metadata of each further size, whose tensors are named so behind `others.N.`.
 *
 * Scorer and shapes belong to one model and one number of tokens per tile, not to a size of clips. They are used on any
 * grid, whose far tiles may be partial.
 *
 * @module
 */
import { madeForIn } from "../attention/made_for.ts";
import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { Config } from "../checkpoint/json.ts";
import { anyOf, FLOAT_DTYPES, MATRIX_DTYPES } from "../checkpoint/dtype.ts";
import { openSafetensors, type TensorSource, toFloat32, toNumbers } from "../checkpoint/safetensors.ts";
import { LAYER, storedLayers } from "../checkpoint/stored_layers.ts";
import { whatTensorsAre } from "../checkpoint/tensor_names.ts";
import type { StoredFile } from "../files/store.ts";
import type { Grid } from "../attention/grid.ts";
import { othersPrefix } from "../attention/sizes.ts";
import { bothSides, type Projections, type ScoreTerms, type StoredProjection, type TileScorer } from "./scorer.ts";
import { checkCapacity, type TileShape, type TileShapes } from "./tile_shapes.ts";

/** Projections are multiplied as they are stored, and converted to check them. */
const PROJECTION_DTYPES = MATRIX_DTYPES.filter((dtype) => FLOAT_DTYPES.includes(dtype));

/** The part of the teacher's attention that a scorer was trained on. */
export type Target = "max" | "sum";

/** The contents of a file of Veda's (`tiles.safetensors`): at least a scorer or shapes. */
export interface VedaFile {
  /** The number of tokens of a tile. */
  readonly tileTokens: number;
  readonly scorer?: TileScorer;
  readonly shapes?: TileShapes;
  readonly target?: Target;
  /** The share of tiles that it was trained or searched for. */
  readonly keep?: number;
  /** The tokens of the clips that it was made on, if those are of one size. */
  readonly grid?: Grid;
  /** The same for clips of other sizes; these have no others. */
  readonly others?: readonly VedaFile[];
  /** The kind of model that it was made for, if the file says it. */
  readonly madeFor?: string;
}

/** What is read from an open file, or from a part of its names. */
type Named = Pick<TensorSource, "path" | "names" | "has" | "info" | "read">;

/** The key in the metadata. */
export const VEDA_KEY = "tiles";
const PROJECTION = new RegExp(`${LAYER.source}tiles\\.project_[qk]$`);

/** The name of a projection in the file, of the layer with a prefix. */
export function projectionName(prefix: string, of: "q" | "k"): string {
  return `${prefix}tiles.project_${of}`;
}

/**
 * Loads a scorer, the shapes of tiles, or both, from safetensors.
 *
 * @throws {TilereelError} if there is none, it is damaged, or holds something else
 */
export async function loadVeda(file: string | StoredFile): Promise<VedaFile> {
  using source = await openSafetensors(file, "a safetensors file with tiles");
  const { path } = source, text = source.metadata[VEDA_KEY];
  if (text === undefined || !hasTiles(source)) {
    throw new TilereelError(
      `${path} holds no tiles${hasTiles(source) ? "" : `, but ${whatTensorsAre(source)}`}; a file made by ` +
        `"tilereel train tiles" or "tilereel search tiles" was expected`,
    );
  }
  const config = Config.under(VEDA_KEY, text, path), first = await readTiles(source, config);
  const others = config.isNull("others") ? [] : config.value("others");
  if (!Array.isArray(others)) {
    throw new TilereelError(`${config.path}: others is no list; a list of objects was expected`);
  }
  const more: VedaFile[] = [];
  for (const [i, value] of others.entries()) {
    const part = behind(source, othersPrefix(i));
    if (!hasTiles(part)) throw new TilereelError(`${path} lacks the tensors "${othersPrefix(i)}…" that it names`);
    more.push(await readTiles(part, Config.under(`${VEDA_KEY}: others ${i}`, value, path)));
  }
  const kind = madeForIn(source.metadata);
  return { ...first, ...more.length > 0 && { others: more }, ...kind !== undefined && { madeFor: kind } };
}

/** The tensors behind a prefix, named without it. */
function behind(source: TensorSource, prefix: string): Named {
  return {
    path: source.path,
    names: () => source.names().filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length)),
    has: (name) => source.has(prefix + name),
    info: (name) => source.info(prefix + name),
    read: (name) => source.read(prefix + name),
  };
}

function hasTiles(source: Named): boolean {
  return source.names().some((name) => PROJECTION.test(name) || name === "tiles.shapes" || name === "tiles.choices");
}

/** The tiles for one size of clips. */
async function readTiles(source: Named, config: Config): Promise<VedaFile> {
  const stored = await readScorer(source), shapes = await readShapes(source);
  const tileTokens = config.integer("tile_tokens", 128);
  for (const shape of shapes?.shapes ?? []) checkCapacity(shape, tileTokens, source.path);
  if (!config.isNull("target")) config.require("target", ["max", "sum"], "max");
  const terms = readTerms(config), scorer = stored && { ...stored, ...terms && { terms } };
  return {
    tileTokens,
    ...scorer && { scorer },
    ...shapes && { shapes },
    ...!config.isNull("target") && { target: config.string("target", "max") as Target },
    ...!config.isNull("keep") && { keep: config.number("keep", 1, { positive: true }) },
    ...!config.isNull("grid") && { grid: config.integers("grid", [], 3) as unknown as Grid },
  };
}

function readTerms(config: Config): ScoreTerms | undefined {
  const terms = { count: config.boolean("count", false), second: config.boolean("second_order", false) };
  return terms.count || terms.second ? terms : undefined;
}

async function readScorer(source: Named): Promise<TileScorer | undefined> {
  const names = source.names().filter((name) => PROJECTION.test(name));
  if (names.length === 0) return undefined;
  const prefixes = storedLayers(names), layers = prefixes.length;
  const missing = prefixes.flatMap((prefix) => [projectionName(prefix, "q"), projectionName(prefix, "k")])
    .find((name) => !source.has(name));
  if (missing !== undefined) {
    throw new TilereelError(
      `${source.path} lacks the tensor ${quoted(missing)}: the highest layer in it is number ${layers - 1}, so ` +
        `${2 * layers} projections were expected, but it has ${names.length}`,
    );
  }
  const [heads = 0, , headDim = 0] = source.info(names[0]!).shape, shape = [heads, 3 * headDim, headDim];
  const take = async (name: string): Promise<StoredProjection> => {
    const info = source.info(name);
    if (heads * headDim === 0 || info.shape.join() !== shape.join() || !PROJECTION_DTYPES.includes(info.dtype)) {
      const wanted = heads * headDim === 0 ? "heads, 3 · head dim, head dim" : shape.join(", ");
      throw new TilereelError(
        `tensor ${quoted(name)} in ${source.path} is ${info.dtype} of the shape [${info.shape.join(", ")}], but ` +
          `${anyOf(PROJECTION_DTYPES)} of [${wanted}] was expected`,
      );
    }
    const data = await source.read(name);
    if (toFloat32(data, info.dtype).some((value) => !Number.isFinite(value))) {
      throw new TilereelError(
        `tensor ${quoted(name)} in ${source.path} holds numbers that are not finite; its training went wrong`,
      );
    }
    return { dtype: info.dtype, data };
  };
  const all: Projections<StoredProjection>[] = [];
  for (const prefix of prefixes) all.push(await bothSides((side) => take(projectionName(prefix, side))));
  return { heads, headDim, layers: all, layerPrefixes: prefixes };
}

async function readShapes(source: Named): Promise<TileShapes | undefined> {
  const names = ["tiles.shapes", "tiles.choices"] as const;
  if (!names.some((name) => source.has(name))) return undefined;
  const [shapes, choices] = names.map((name) => source.info(name));
  const [layers = 0, heads = 0] = choices!.shape;
  const numbers = async (name: string) => [...toNumbers(await source.read(name), source.info(name).dtype)].map(Number);
  const [sizes, picks] = [await numbers("tiles.shapes"), await numbers("tiles.choices")];
  const count = sizes.length / 3;
  const fits = shapes!.shape.join() === `${count},3` && choices!.shape.length === 2 && picks.length > 0 &&
    sizes.every((size) => Number.isInteger(size) && size > 0) &&
    picks.every((pick) => Number.isInteger(pick) && pick >= 0 && pick < count) && count <= 256;
  if (!fits) {
    throw new TilereelError(
      `${source.path}: "tiles.shapes" must be [shapes, 3], numbers of at least 1, and "tiles.choices" [layers, heads], ` +
        `each the number of a shape`,
    );
  }
  const budgets = await readBudgets(source, layers, heads);
  return {
    ...budgets && { budgets },
    shapes: Array.from({ length: count }, (_, i) => sizes.slice(3 * i, 3 * i + 3) as unknown as TileShape),
    choices: Array.from({ length: layers }, (_, i) => Uint8Array.from(picks.slice(i * heads, (i + 1) * heads))),
  };
}

/** @throws {TilereelError} if they are not numbers above 0, one for each head */
async function readBudgets(source: Named, layers: number, heads: number): Promise<Float32Array[] | undefined> {
  const name = "tiles.budgets";
  if (!source.has(name)) return undefined;
  const { shape, dtype } = source.info(name);
  const numbers = dtype === "F32" ? toFloat32(await source.read(name), dtype) : new Float32Array();
  if (shape.join() !== `${layers},${heads}` || !numbers.every((x) => x > 0 && x < Infinity) || numbers.length === 0) {
    throw new TilereelError(
      `${source.path}: "${name}" must be F32 of [${layers}, ${heads}], numbers above 0, as "tiles.choices" has heads`,
    );
  }
  return Array.from(
    { length: layers },
    (_, layer) => Float32Array.from(numbers.slice(layer * heads, (layer + 1) * heads)),
  );
}
