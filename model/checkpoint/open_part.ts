import type { PartWeights } from "../family.ts";
import type { FileStore, StoredFile } from "../files/store.ts";
import { Config } from "./json.ts";
import { refuseQuantized } from "./known_models.ts";
import { openCheckpoint } from "./sharded.ts";
import { namedRows } from "./named_rows.ts";
import { pairScales } from "./scales.ts";
import type { TensorSource } from "./tensor_source.ts";
import { type StoredAs, TensorView } from "./tensor_view.ts";

/**
 * Reads the configuration of a model's part that has weights.
 *
 * @throws {TilereelError} if there is none, or it says that the weights are quantised
 */
export async function readPartConfig(file: string | StoredFile): Promise<Config> {
  const config = await Config.read(file);
  refuseQuantized(config);
  return config;
}

/**
 * Reads the configuration of a part from its folder, or, where it is a single file, from the shapes of its weights.
 *
 * @param place of the part, as `ModelFolder.component` gives it
 * @throws {TilereelError} as {@link readPartConfig} and {@link openPart} do
 */
export async function partConfig(place: FileStore, part: PartWeights): Promise<Config> {
  const file = place.file("config.json");
  if (!part.configFromShapes || await place.kind() !== "file") return await readPartConfig(file);
  const config = await file.kind() ? await Config.read(file) : new Config(place.path, {});
  using weights = await openPart(place, part);
  return new Config(place.path, { ...config.values, ...part.configFromShapes(weights, config) });
}

/**
 * Opens the weights of a part under the family's names. Scales belong to the descriptions of their matrices.
 *
 * @param place the part's folder, or a single file that holds it
 * @throws {TilereelError} if there are none, a shard is missing, a file is truncated or corrupt, a scale does
 * not fit its matrix, or a tensor does not divide into the family's
 */
export async function openPart(place: string | FileStore, part: PartWeights): Promise<TensorSource> {
  return asPart(await openCheckpoint(place, part.stem), part);
}

/** As {@link openPart}, of a checkpoint that is open already, which it takes over. */
export function asPart(
  source: TensorSource,
  { names = (name) => name, pairedRows = () => undefined }: PartWeights,
): TensorSource {
  try {
    const { names: stored, scales, turned } = pairScales(source);
    if (stored.length === source.names().length && stored.every((name) => names(name) === name)) return source;
    const named = stored.flatMap((name) =>
      namedRows(names, source.info(name)).map(({ name: as, rows }): [string, StoredAs] => [
        as,
        {
          source,
          name,
          scale: scales.get(name),
          rows,
          dtype: turned.has(name) ? "I8_ROWS" : undefined,
          pairs: pairedRows(as, source.metadata),
        },
      ])
    );
    return new TensorView(source.path, new Map(named), [source], source.metadata);
  } catch (error) {
    source.close();
    throw error;
  }
}
