import { checkMadeFor } from "../../../model/attention/made_for.ts";
import type { FamilyModel } from "../../../model/family.ts";
import { DEFAULT_KEEP } from "../../../model/veda/budget.ts";
import { DEFAULT_DENSE_STEPS, keepOn, type VedaOptions } from "../../../model/veda/methods.ts";
import { checkCapacity } from "../../../model/veda/tile_shapes.ts";
import { TILE_SCORES } from "../../../model/veda/scorer.ts";
import { loadVeda, type VedaFile } from "../../../model/veda/veda_file.ts";
import { type Grid, product } from "../../../model/attention/grid.ts";
import { fileAt } from "../../../model/files/disk.ts";
import type { FileStore } from "../../../model/files/store.ts";
import { fileIdentity } from "../../../model/identity/file_identity.ts";
import { choice, inGroup, integer, notation, number, ofOption, type OptionValues, path } from "../options.ts";
import { ownFile } from "../../../model/own_files.ts";
import { sizes, sizesText } from "./vorta_options.ts";

/** The table of Veda's options. */
export const vedaOptions = inGroup("Attention", {
  tiles: path({
    value: "FILE",
    help: 'For veda: trained scores of tiles and a tile shape for every head, made by "tilereel train tiles" and ' +
      '"tilereel search tiles". Without them, tiles are scored by the means and variances of their tokens.',
    elsewhere: ["tile-plan", "predictor"],
    default: "tiles.safetensors in the model's folder, if there is one",
  }),
  keep: number({
    help: "For veda: the share of tiles that each tile attends to. Lower is faster; 1 keeps all.",
    elsewhere: ["keep-ratio", "density", "topk"],
    default: `the file's, or ${DEFAULT_KEEP}; more on small grids`,
    above: 0,
    max: 1,
  }),
  "dense-steps": integer({
    help: "For veda and vorta: number of first steps with full attention. They decide the layout of the picture. " +
      "With --full-branch veda, only the heads with full attention have them.",
    elsewhere: ["warmup-steps", "first-steps"],
    default: `${DEFAULT_DENSE_STEPS} for veda; for vorta what the router's file says, or 0`,
    min: 0,
  }),
  "dense-layers": notation<readonly number[]>(
    {
      value: "LIST",
      help: "For veda: layers with full attention, counted from 0, such as 0,1,38-39.",
      elsewhere: ["skip-layers", "full-layers"],
      default: "none",
    },
    "numbers of layers and rising ranges of them, as in 0,1,38-39",
    (text) => {
      const list: number[] = [];
      for (const part of text.split(",")) {
        const [, from, to] = /^\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?$/.exec(part) ?? [];
        const first = Number(from), last = Number(to ?? from);
        if (from === undefined || last < first) return undefined;
        for (let layer = first; layer <= last; layer++) list.push(layer);
      }
      return list;
    },
  ),
  "tile-scores": choice({
    choices: TILE_SCORES,
    help:
      "For veda, for study: what tiles are scored by. trained: the scores of --tiles; second-order: an estimate of " +
      "the attention between two tiles by the means and variances of their tokens, which needs no training; mean: " +
      "the means alone; random: nothing.",
    elsewhere: ["scorer", "predictor-type"],
    default: "trained where there are such scores, otherwise second-order",
  }),
  rest: choice({
    choices: ["none", "estimate"],
    help: "For veda: estimate adds what the tiles that are left out would add, by the means of their tokens; this is " +
      "new, and was tried on three clips of the demo model, which came closer to full attention but had no more " +
      "objects right.",
    default: "none",
  }),
  "tile-shape": sizes({
    value: "TxHxW",
    help: "For veda, for study: one tile shape for all heads, along frames, rows and columns. Tiles are then " +
      "scored without training, or with --tiles by the scores in that file.",
    default: "the file's, or one of up to 128 tokens that suits the grid",
  }),
});

/** The names of {@link vedaOptions}. */
export const VEDA_KEYS = Object.keys(vedaOptions) as (keyof typeof vedaOptions)[];

/** What the options of Veda describe. */
export interface ReadyVeda {
  readonly options: VedaOptions;
  /** @throws {TilereelError} if the file was made for another kind of model */
  check(model: Pick<FamilyModel, "family">): void;
  /** The settings on a grid as the record of a clip has them, by the names of their options. */
  record(grid: Grid): Readonly<Record<string, unknown>>;
}

/**
 * What the options describe.
 *
 * @param model folder of the model, where its own tiles are looked for
 * @throws {TilereelError} if the file cannot be used, or the shape is not of its size
 */
export async function readyVeda(
  values: OptionValues<typeof vedaOptions>,
  model: string | FileStore,
): Promise<ReadyVeda> {
  const { "tile-shape": shape, "tile-scores": scores, rest } = values;
  const file = values.tiles === undefined
    ? shape === undefined ? await ownFile(model, "tiles") : undefined
    : fileAt(values.tiles);
  const loaded = file && await loadVeda(file).catch((error) => {
    throw ofOption(values.tiles && "tiles", error);
  });
  const { others = [], ...first } = loaded ?? { tileTokens: 0 }, all = loaded ? [first, ...others] : [];
  try {
    if (shape && loaded && !all.some(({ tileTokens }) => tileTokens === product(shape))) {
      checkCapacity(shape, loaded.tileTokens, `--tile-shape with ${file!.path}`);
    }
  } catch (error) {
    throw ofOption("tile-shape", error);
  }
  const sizes = all.filter(({ tileTokens }) => !shape || tileTokens === product(shape));
  const sizeOf = ({ tileTokens, scorer, keep, shapes }: VedaFile) => ({
    tileTokens,
    ...scorer && { scorer },
    ...keep !== undefined && { usualKeep: keep },
    ...(shape ?? shapes) && { shapes: shape ?? shapes! },
  });
  const withGrids = sizes.flatMap((file) => file.grid ? [{ ...sizeOf(file), grid: file.grid }] : []);
  const options: VedaOptions = {
    ...values.keep !== undefined && { keep: values.keep },
    ...values["dense-steps"] !== undefined && { denseSteps: values["dense-steps"] },
    ...values["dense-layers"] !== undefined && { denseLayers: values["dense-layers"] },
    ...shape && { shapes: shape },
    ...loaded && { ...sizeOf(sizes[0]!), name: file!.path },
    ...withGrids.length > 0 && { sizes: withGrids },
    ...scores !== undefined && { scores },
    ...rest === "estimate" && { rest: true },
  };
  const tiles = await fileIdentity("tiles", file), { denseSteps = DEFAULT_DENSE_STEPS, denseLayers } = options;
  const given = {
    denseSteps,
    ...scores !== undefined && { tileScores: scores },
    ...rest !== undefined && { rest },
    ...denseLayers && { denseLayers },
    ...shape && { tileShape: sizesText(shape) },
  };
  const check = ({ family }: Pick<FamilyModel, "family">) => {
    if (loaded) checkMadeFor(file!.path, loaded.madeFor, family);
  };
  return { options, check, record: (grid) => ({ ...tiles, keep: keepOn(grid, options), ...given }) };
}
