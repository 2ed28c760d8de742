import { TilereelError } from "../../gpu/common/errors.ts";
import type { HeadShape } from "../../model/attention/layout.ts";
import { DEFAULT_KEEP } from "../../model/veda/budget.ts";
import { vedaHeads } from "../../model/veda/methods.ts";
import { loadVeda, type VedaFile } from "../../model/veda/veda_file.ts";
import { integer, number } from "../../tools/program/options.ts";
import { withoutSizes } from "./add_to.ts";

/** --tile-tokens and --keep, of all commands for Veda; `before` is what of the default number of tokens comes first. */
export const tileOptions = (before: string, keepHelp: string) => ({
  "tile-tokens": integer({
    help: "Number of tokens in a tile.",
    elsewhere: ["tile-size", "block-size"],
    default: `${before}128, or less on small clips`,
    min: 1,
  }),
  keep: number({ help: keepHelp, elsewhere: ["keep-ratio", "density"], default: DEFAULT_KEEP, above: 0, max: 1 }),
});

/**
 * The tiles of the file of --add-to, one entry for each size.
 *
 * @param shape of the model that the others in the result are for
 * @throws {TilereelError} if the file does not say for which sizes they are, or they are for another model
 */
export async function loadOthers(file: string | undefined, shape: HeadShape): Promise<VedaFile[]> {
  if (file === undefined) return [];
  const { others = [], ...first } = await loadVeda(file), all = [first, ...others];
  if (!all.every(({ grid }) => grid)) throw withoutSizes(file, "tiles");
  for (const { tileTokens, scorer, shapes } of all) {
    const tiles = { tileTokens, ...scorer && { scorer }, ...shapes && { shapes } };
    vedaHeads({ ...tiles, name: `--add-to ${file}` }).check?.(shape);
  }
  return all;
}

/** A file's tiles, and those for clips of other sizes; what is for the same size is replaced. */
export function withOthers(file: VedaFile, others: readonly VedaFile[]): VedaFile {
  const left = others.filter(({ grid }) => String(grid) !== String(file.grid));
  return left.length > 0 ? { ...file, others: left } : file;
}

/**
 * A file of tiles.
 *
 * @param asked --tile-tokens
 * @throws {TilereelError} if it cannot be read, or is for other tiles
 */
export async function loadTiles(file: string, asked: number | undefined): Promise<VedaFile> {
  const loaded = await loadVeda(file), { tileTokens } = loaded;
  if (asked === undefined || asked === tileTokens) return loaded;
  throw new TilereelError(`--tile-tokens is ${asked}, but the tiles of ${file} have ${tileTokens}: leave it out`);
}
