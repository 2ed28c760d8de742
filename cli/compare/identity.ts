/**
 * What tells the clips of comparisons apart: two of the same identity are the same clip.
 *
 * @module
 */
import { openModelFolder } from "../../model/checkpoint/model_folder.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import { readSchedulerConfig } from "../../model/schedulers/config.ts";
import type { WeightDtypeChoice } from "../../model/weight_dtype.ts";
import type { ReadyAttention } from "../../tools/program/clip/attention_options.ts";
import type { ClipSettings } from "../../tools/program/clip/clip_settings.ts";
import { plannedRecord } from "../generate/clip_record.ts";
import { modelIdentity } from "../generate/model_identity.ts";
import type { Identity } from "./clip_store.ts";

/**
 * Gives identities: the records that the clips carry, as far as they are known before a clip is rendered.
 *
 * @param choice the model's folder, or none for the embedded model, and an ONNX file instead of its text encoder
 * @param about what else figures depend on, such as the adapter
 * @throws {TilereelError} if a part of the model cannot be read
 */
export async function identities(
  { weightDtype, ...choice }: {
    readonly model?: string | undefined;
    readonly textEncoder?: string | undefined;
    readonly weightDtype?: WeightDtypeChoice | undefined;
  },
  about: Readonly<Record<string, unknown>>,
): Promise<(clip: ClipSettings, attention: ReadyAttention) => Identity> {
  const folder = await openModelFolder(choice.model ?? embeddedModelDir());
  const scheduler = await readSchedulerConfig((await folder.component("scheduler")).file("scheduler_config.json"));
  const model = await modelIdentity(choice);
  return (settings, attention) => ({
    ...plannedRecord({ settings, attention, model, scheduler, weightDtype, quality: undefined, latents: {} }),
    ...about,
    prompt: settings.prompt,
    seed: settings.seed,
  });
}
