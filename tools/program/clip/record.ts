/**
 * The record in a clip's file: everything that determines the picture, so that the clip can be repeated and
 * distinguished from others, and where it was made. What differs between runs of the same command, such as the time, is
 * left out, so that the same command gives the same bytes.
 *
 * @module
 */
import config from "../../../deno.json" with { type: "json" };
import type { FamilyModel } from "../../../model/family.ts";
import { ownSigmas } from "../../../model/schedulers/config.ts";
import { sharedName } from "../../../model/identity/file_identity.ts";
import type { ModelIdentity } from "../../../model/identity/model_identity.ts";
import type { ClipRecord } from "../../../model/video/record_text.ts";
import type { ClipSettings } from "./clip_settings.ts";
import type { ReadyMethods } from "./method_options.ts";

/** The name of the embedded model. */
export const EMBEDDED = "embedded";

/** Everything that a clip is made with. */
export interface RecordParts {
  readonly settings: ClipSettings;
  readonly methods: ReadyMethods;
  /** The model's folder. Default: the embedded model. */
  readonly model?: string | undefined;
  /** Without it, `--like` cannot tell whether it finds the same model. */
  readonly identity?: ModelIdentity | undefined;
  /** A pipeline, or an opened model. */
  readonly opened: Pick<FamilyModel, "scheduler" | "layout">;
  /** Of an MP4. */
  readonly quality?: number | undefined;
  /** Pictures that it is made of. */
  readonly images?: Readonly<Record<string, string>> | undefined;
  /** Start noise in place of the seed's. */
  readonly latents?: { readonly latents?: string; readonly latentsDigest?: string };
}

/** What is known before anything is loaded: all but precision, adapter and density. */
export function plannedRecord(
  { settings, methods, model, identity, opened, quality, images, latents = {} }: RecordParts,
): ClipRecord {
  const { scheduler } = opened;
  const { prompt, negativePrompt, scheduler: kind = scheduler.kind, flowShift = scheduler.flowShift, ...more } =
    settings;
  const { sigmas = ownSigmas(scheduler, settings.steps), ...rest } = more;
  // The order of the keys is fixed, so that equal clips have equal bytes.
  return {
    version: config.version,
    prompt,
    ...negativePrompt && { negativePrompt },
    ...rest,
    ...{ scheduler: kind, sigmas, flowShift },
    // Given noise does not come from the seed.
    ...latents.latents !== undefined && { ...latents, seed: null },
    ...images,
    ...methods.record(opened.layout(settings).grid),
    model: model === undefined ? EMBEDDED : sharedName(model),
    ...identity,
    ...quality !== undefined && { quality },
  };
}
