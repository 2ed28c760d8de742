import { TilereelError } from "../../gpu/common/errors.ts";
import { DEFAULT_KEEP } from "../../model/veda/budget.ts";
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
 * @throws {TilereelError} if the file does not say for which sizes they are
 */
export async function loadOthers(file: string | undefined): Promise<VedaFile[]> {
  if (file === undefined) return [];
  const { others = [], ...first } = await loadVeda(file), all = [first, ...others];
  if (all.every(({ grid }) => grid)) return all;
  throw withoutSizes(file, "tiles");
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
