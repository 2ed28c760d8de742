/**
 * Settings with what they need, which is read before any model is loaded.
 *
 * @module
 */
import { TilereelError } from "../../errors.ts";
import type { AttentionMethod } from "../../model/attention/method.ts";
import { attentionKind, attentionMethod, ownRouter } from "../attention_options.ts";
import { exists } from "../../model/checkpoint/file_error.ts";
import { modelDigest } from "../../model/training/model_digest.ts";
import { ownTiles } from "../veda_options.ts";
import { checkSettings, parseSetting, type Setting } from "./setting.ts";

/** A setting to render with. */
export interface ReadySetting extends Setting {
  readonly attention: AttentionMethod;
  /** Digests of the files of the router and of the tiles, where they might be used. */
  readonly router: string | undefined;
  readonly tiles: string | undefined;
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
  const [own, tiles] = [ownRouter(model), ownTiles(model)];
  const words = DEFAULTS[await exists(own) ? "routed" : "unrouted"];
  const settings = given ?? words.map((text) => parseSetting(text, "--setting"));
  checkSettings(settings);
  return await Promise.all(settings.map(async (setting) => ({
    ...setting,
    attention: await attentionOf(setting, model),
    router: usesRouter(setting) ? await digest(setting.values.router ?? own) : undefined,
    tiles: usesTiles(setting) ? await digest(setting.values.tiles ?? tiles) : undefined,
  })));
}

/** The sizes of the single branches are the router's, too. */
function usesRouter({ values }: Setting): boolean {
  return !["full", "veda"].includes(attentionKind(values));
}

function usesTiles({ values }: Setting): boolean {
  return attentionKind(values) === "veda" || values["full-branch"] === "veda";
}

async function attentionOf({ name, values }: Setting, model: string): Promise<AttentionMethod> {
  try {
    return await attentionMethod(values, model);
  } catch (error) {
    if (!(error instanceof TilereelError)) throw error;
    throw new TilereelError(`setting ${JSON.stringify(name)}: ${error.message}`, { cause: error });
  }
}

async function digest(path: string): Promise<string | undefined> {
  return await exists(path) ? await modelDigest([path]) : undefined;
}
