/**
 * What tells the clips of comparisons apart: two of the same identity are the same clip.
 *
 * @module
 */
import config from "../../deno.json" with { type: "json" };
import { openModelFolder } from "../../model/checkpoint/model_folder.ts";
import { modelDigest } from "../../model/training/model_digest.ts";
import { attentionKind, attentionOptions, type AttentionValues } from "../attention_options.ts";
import type { ClipSettings } from "../clip_settings.ts";
import type { Identity } from "./clip_store.ts";
import type { ReadySetting } from "./ready_setting.ts";

/**
 * The identity of a clip.
 *
 * @param about model and adapter, by which figures differ, too
 */
export function clipIdentity(
  clip: ClipSettings,
  { values, router, tiles }: Pick<ReadySetting, "values" | "router" | "tiles">,
  about: Readonly<Record<string, unknown>>,
): Identity {
  // Files count by what they hold.
  const { router: _, tiles: __, ...rest } = values;
  const keys = (Object.keys(attentionOptions) as (keyof AttentionValues)[]).filter((key) => Object.hasOwn(rest, key));
  return {
    version: config.version,
    ...about,
    ...clip,
    ...Object.fromEntries(keys.map((key) => [key, values[key]])),
    attention: attentionKind(values),
    ...router !== undefined && { router },
    ...tiles !== undefined && { tiles },
  };
}

/**
 * The model in a folder.
 *
 * @param textEncoder an ONNX file instead of the model's own
 * @throws {TilereelError} if a part of it cannot be read
 */
export async function modelIdentity(path: string, textEncoder: string | undefined): Promise<string> {
  const folder = await openModelFolder(path);
  const names = ["transformer", "vae", "scheduler", "tokenizer", ...textEncoder === undefined ? ["text_encoder"] : []];
  const parts = await Promise.all(names.map((name) => folder.component(name as "transformer")));
  return await modelDigest([...parts, ...textEncoder === undefined ? [] : [textEncoder]]);
}
