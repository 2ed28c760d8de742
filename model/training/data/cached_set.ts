/**
 * Training sets whose samples are made before training starts, and then read from the cache.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { Gpu } from "../../../gpu/gpu.ts";
import type { OnProgress } from "../../progress.ts";
import type { ModelVariant } from "../../model_variant.ts";
import type { LatentCache, Recipe } from "./latent_cache.ts";
import type { TrainingSample, TrainingSet } from "./training_set.ts";

/** The number of samples that are made together, so that their texts are embedded in few calls. */
const GROUP = 16;

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
  readonly signal?: AbortSignal | undefined;
}

/** Makes missing samples. */
export interface Maker<Item> extends AsyncDisposable {
  /**
   * Makes a group of samples.
   *
   * @param onStep called now and then, so that a display shows that work goes on
   * @returns for each item its sample, or undefined if it gives none; one after another
   */
  make(items: readonly Item[], onStep: () => void): AsyncIterable<TrainingSample | undefined>;
}

/** Options of {@link cachedSet}. */
export interface CachedSetOptions<Item> {
  readonly cache: LatentCache;
  readonly recipe: (item: Item) => Recipe;
  /** Opens the maker of samples. It is not called if none is missing. */
  readonly open: () => Promise<Maker<Item>>;
  /** Called with the progress of "check latents" in samples, then of "make latents" in missing samples. */
  readonly onProgress?: OnProgress | undefined;
  /** Stops between two samples; those already made stay in the cache. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * The set of the items' samples, in order. Those that are not in the cache are made now. Items that give no sample are
 * left out.
 *
 * @throws the signal's reason, if it is aborted
 */
export async function cachedSet<Item>(items: readonly Item[], options: CachedSetOptions<Item>): Promise<TrainingSet> {
  const { cache, recipe, onProgress } = options;
  const missing: Item[] = [];
  for (const [done, item] of items.entries()) {
    onProgress?.({ stage: "check latents", done, total: items.length });
    if (!await cache.has(recipe(item))) missing.push(item);
  }
  onProgress?.({ stage: "check latents", done: items.length, total: items.length });
  const without = missing.length > 0 ? await makeAll(missing, options) : new Set();
  const recipes = items.filter((item) => !without.has(item)).map(recipe);
  const digest = createHash("sha256");
  for (const each of recipes) digest.update(await cache.checksum(each));
  return {
    size: recipes.length,
    digest: digest.digest("hex"),
    sample: (index) => cache.read(recipes[index]!),
  };
}

/** Makes samples and caches them. Returns the items that give none. */
async function makeAll<Item>(items: readonly Item[], options: CachedSetOptions<Item>): Promise<Set<Item>> {
  const { cache, recipe, open, onProgress, signal } = options;
  const without = new Set<Item>();
  let done = 0;
  const report = () => onProgress?.({ stage: "make latents", done, total: items.length });
  await using maker = await open();
  report();
  for (let at = 0; at < items.length; at += GROUP) {
    const group = items.slice(at, at + GROUP);
    let next = 0;
    signal?.throwIfAborted();
    for await (const sample of maker.make(group, report)) {
      const item = group[next++]!;
      if (sample) await cache.write(recipe(item), sample);
      else without.add(item);
      done++;
      report();
      signal?.throwIfAborted();
    }
  }
  return without;
}
