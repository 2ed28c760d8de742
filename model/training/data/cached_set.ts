import { createHash } from "node:crypto";
import type { Gpu } from "../../../gpu/gpu.ts";
import type { ModelVariant } from "../../model_variant.ts";
import type { OnProgress } from "../../progress.ts";
import type { LatentCache, Recipe } from "./latent_cache.ts";
import type { TrainingSample, TrainingSet } from "./training_set.ts";

/** The model that makes samples, and the cache that keeps them. */
export interface SetOptions {
  readonly gpu: Gpu;
  /** The model's folder. */
  readonly model: string;
  /** What it is used with. Default: nothing but its own parts */
  readonly variant?: ModelVariant;
  readonly cache: LatentCache;
  /** Called with the progress of "check latents" and, if some are missing, of loading and "make latents", in samples. */
  readonly onProgress?: OnProgress | undefined;
  /** Stops between two samples; those already made stay in the cache. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * The training set of the items' samples, in order. Those that are not in the cache are made now, before training
 * starts. Items that give no sample are left out.
 *
 * @param make makes the samples of items one after another, undefined for an item that gives none. It calls `onStep`
 * once it is ready, and then now and then, so that a display shows that work goes on. If none is missing, it is not run
 * @throws the signal's reason, if it is aborted
 */
export async function cachedSet<Item>(
  items: readonly Item[],
  recipe: (item: Item) => Recipe,
  make: (items: readonly Item[], onStep: () => void) => AsyncIterable<TrainingSample | undefined>,
  { cache, onProgress, signal }: SetOptions,
): Promise<TrainingSet> {
  const missing: Item[] = [], without = new Set<Item>();
  for (const [done, item] of items.entries()) {
    onProgress?.({ stage: "check latents", done, total: items.length });
    if (!await cache.has(recipe(item))) missing.push(item);
  }
  onProgress?.({ stage: "check latents", done: items.length, total: items.length });
  if (missing.length > 0) {
    let done = 0;
    const report = () => onProgress?.({ stage: "make latents", done, total: missing.length });
    for await (const sample of make(missing, report)) {
      const item = missing[done++]!;
      if (sample) await cache.write(recipe(item), sample);
      else without.add(item);
      report();
      signal?.throwIfAborted();
    }
  }
  const recipes = items.filter((item) => !without.has(item)).map(recipe), digest = createHash("sha256");
  for (const each of recipes) digest.update(await cache.checksum(each));
  return {
    size: recipes.length,
    digest: digest.digest("hex"),
    sample: (index) => cache.read(recipes[index]!),
  };
}

/** Items in groups whose texts are embedded together, in few calls. */
export function* textGroups<Item>(items: readonly Item[]): Iterable<readonly Item[]> {
  const size = 16;
  for (let at = 0; at < items.length; at += size) yield items.slice(at, at + size);
}
