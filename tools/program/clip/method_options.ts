import type { Grid } from "../../../model/attention/grid.ts";
import type { AttentionMethod } from "../../../model/attention/method.ts";
import type { FamilyModel } from "../../../model/family.ts";
import type { FileStore } from "../../../model/files/store.ts";
import type { GenerateOptions } from "../../../model/pipeline.ts";
import { ofOption, type OptionTable, type OptionValues } from "../options.ts";
import { attentionOptions, attentionStillMeant, readyAttention } from "./attention_options.ts";
import { cacheOptions, cacheStillMeant, readyCache } from "./cache_options.ts";

/** Tables of options of the methods that a clip is computed with, each under its first option, which names its kind. */
export const METHODS: Readonly<Record<string, Method>> = {
  attention: { options: attentionOptions, stillMeant: attentionStillMeant },
  cache: { options: cacheOptions, stillMeant: cacheStillMeant },
};

/** A method: its options, and those of `under` that still apply if `over` asks for another kind. */
interface Method {
  readonly options: OptionTable;
  readonly stillMeant: <T extends MethodValues>(under: T, over: MethodValues) => T;
}

/** All their options in one table. */
export const methodOptions = { ...attentionOptions, ...cacheOptions };

/** Values of {@linkcode methodOptions} that were given. */
export type MethodValues = OptionValues<typeof methodOptions>;

/** The values of `under` that still apply under `over`: options of other kinds of methods do not. */
export function stillMeant<T extends MethodValues>(under: T, over: MethodValues): T {
  return Object.values(METHODS).reduce((left, method) => method.stillMeant(left, over), under);
}

/** Methods whose files are loaded. */
export interface ReadyMethods {
  /** @throws {TilereelError} with the `option`, if one of them does not fit the model */
  check(model: Pick<FamilyModel, "family" | "shape">): void;
  /** What `VideoPipeline.generate` takes of them. */
  readonly options: Pick<GenerateOptions, "cache"> & { readonly attention: AttentionMethod };
  /** Their kinds and complete settings on a grid, as the record of a clip has them. */
  record(grid: Grid): Readonly<Record<string, unknown>>;
}

/**
 * The methods that were asked for.
 *
 * @param model folder of the model, where its own files are looked for
 * @throws {TilereelError} if options contradict one another (with the `option`), or a file cannot be used
 */
export async function readyMethods(values: MethodValues, model: string | FileStore): Promise<ReadyMethods> {
  const cached = readyCache(values);
  const { kind, method, check, settings } = await readyAttention(values, model);
  return {
    check: (model) => {
      about("attention", () => {
        check?.(model);
        method.check?.(model.shape);
      });
      about("cache", () => cached.cache?.check?.(model));
    },
    options: { attention: method, ...cached.cache && { cache: cached.cache } },
    record: (grid) => ({ attention: kind, ...settings(grid), ...cached.record }),
  };
}

/** Runs a check, whose errors are about an option. */
function about(option: string, check: () => void): void {
  try {
    check();
  } catch (error) {
    throw ofOption(option, error);
  }
}
