/**
 * Files that hold something for each layer of a model, as routers and tile scorers, by the prefixes of tensors' names.
 *
 * @module
 */

/** Matches the prefix of a layer: the kind of layer, and its number. */
export const LAYER = /^(\w+\.)(0|[1-9]\d{0,3})\./;

/**
 * The prefixes of the layers that a file is for: of every kind of layer all up to the last one that is there.
 *
 * @param names of tensors that begin with a prefix
 */
export function storedLayers(names: Iterable<string>): string[] {
  const counts = new Map<string, number>();
  for (const name of names) {
    const [, kind, number] = LAYER.exec(name)!;
    counts.set(kind!, Math.max(counts.get(kind!) ?? 0, Number(number) + 1));
  }
  return [...counts].flatMap(([kind, count]) => Array.from({ length: count }, (_, i) => `${kind}${i}.`));
}

/**
 * What belongs to layers, in the order of a model's layers.
 *
 * @param stored the prefixes of the layers
 * @param wanted those of the model
 * @returns undefined if they are not the same
 */
export function inOrder<T>(
  layers: readonly T[],
  stored: readonly string[],
  wanted: readonly string[],
): T[] | undefined {
  const places = wanted.map((prefix) => stored.indexOf(prefix));
  return places.includes(-1) || stored.length > wanted.length ? undefined : places.map((place) => layers[place]!);
}
