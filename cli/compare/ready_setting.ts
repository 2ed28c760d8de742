/**
 * Settings with what they need, which is read before any model is loaded.
 *
 * @module
 */
import { TilereelError } from "../../errors.ts";
import type { AttentionMethod } from "../../model/attention/method.ts";
import { attentionMethod, ownRouter } from "../attention_options.ts";
import { exists } from "../output.ts";
import { checkSettings, parseSetting, type Setting } from "./setting.ts";

/** A setting to render with. */
export interface ReadySetting extends Setting {
  readonly attention: AttentionMethod;
  /** The router's file, where it might be used, by what shows that it is another one. */
  readonly router: { readonly path: string; readonly bytes: number; readonly changed: string } | undefined;
}

/** What shows the most of a model with a router, and of one without. */
const DEFAULTS = { routed: ["full", "vorta"], unrouted: ["full", "sliding", "coreset"] } as const;

/**
 * The settings that were given, or the default ones.
 *
 * @param model folder of the model
 * @throws {TilereelError} if they cannot be compared, or one of them cannot be used
 */
export async function readySettings(given: readonly Setting[] | undefined, model: string): Promise<ReadySetting[]> {
  const own = ownRouter(model);
  const words = DEFAULTS[await exists(own) ? "routed" : "unrouted"];
  const settings = given ?? words.map((text) => parseSetting(text, "--setting"));
  checkSettings(settings);
  return await Promise.all(settings.map(async (setting) => ({
    ...setting,
    attention: await attentionOf(setting, model),
    router: setting.values.attention === "full" ? undefined : await stamp(setting.values.router ?? own),
  })));
}

async function attentionOf({ name, values }: Setting, model: string): Promise<AttentionMethod> {
  try {
    return await attentionMethod(values, model);
  } catch (error) {
    if (!(error instanceof TilereelError)) throw error;
    throw new TilereelError(`setting ${JSON.stringify(name)}: ${error.message}`, { cause: error });
  }
}

async function stamp(path: string): Promise<ReadySetting["router"]> {
  if (!await exists(path)) return undefined;
  const { size, mtime } = await Deno.stat(path);
  return { path, bytes: size, changed: mtime?.toISOString() ?? "" };
}
