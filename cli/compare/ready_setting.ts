import { quoted, TilereelError } from "../../gpu/common/errors.ts";
import { type ReadyMethods, readyMethods } from "../../tools/program/clip/method_options.ts";
import { distilledIn } from "../../model/checkpoint/model_folder.ts";
import { ownFile } from "../../model/own_files.ts";
import { checkSettings, parseSetting, type Setting } from "../../tools/program/clip/setting.ts";

/** A setting to render with, whose files are read before any model is loaded. */
export interface ReadySetting extends Setting {
  readonly methods: ReadyMethods;
}

/** The default settings for a model with VSA, with a router, and for others. */
const DEFAULTS = {
  distilled: ["full", "vsa"],
  routed: ["full", "vorta"],
  unrouted: ["full", "sliding", "coreset"],
} as const;

/**
 * The settings that were given, or the default ones.
 *
 * @param model folder of the model
 * @throws {TilereelError} if they cannot be compared, or one of them cannot be used
 */
export async function readySettings(given: readonly Setting[] | undefined, model: string): Promise<ReadySetting[]> {
  const isDistilled = (await distilledIn(model))?.sparsity !== undefined;
  const words = DEFAULTS[isDistilled ? "distilled" : await ownFile(model, "router") ? "routed" : "unrouted"];
  const settings = given ?? words.map((text) => parseSetting(text, "--setting"));
  checkSettings(settings);
  return await Promise.all(settings.map(async (setting) => ({
    ...setting,
    methods: await methodsOf(setting, model),
  })));
}

async function methodsOf({ name, values }: Setting, model: string): Promise<ReadyMethods> {
  try {
    return await readyMethods(values, model);
  } catch (error) {
    if (!(error instanceof TilereelError)) throw error;
    throw new TilereelError(`setting ${quoted(name)}: ${error.message}`, { cause: error, option: error.option });
  }
}
