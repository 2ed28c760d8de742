/**
 * The flow shift of clips that repeat one at another size. Its record has a shift whether somebody asked for it or not.
 *
 * @module
 */
import { trainedFlowShift } from "../../model/checkpoint/trained_sizes.ts";
import type { FamilyModel } from "../../model/family.ts";
import type { ClipSize } from "../../model/video_size.ts";
import { type BatchValues, overlaid } from "../../tools/program/clip/batch_options.ts";
import { type ClipSettings, clipShape } from "../../tools/program/clip/clip_settings.ts";
import type { Like } from "./like.ts";

/** What a model says of flow shifts. */
type Shifts = Pick<FamilyModel, "defaults" | "scheduler">;

/**
 * The values for clips that repeat one: without its flow shift if that is what the model has for a clip of its size, so
 * that clips of another size get what the model has for theirs. A shift that somebody asked for is kept.
 */
export function valuesLike({ own, values, given }: Like, model: Shifts): BatchValues {
  const { "flow-shift": _, ...others } = values;
  if (givesShift(given) || hasLevels(values)) return values;
  return own["flow-shift"] === modelShift(model, clipShape(own, model.defaults)) ? others : values;
}

/**
 * A clause on the flow shift of a clip of another size than the one that it repeats, if it has another shift, or not what
 * the model has for its size; undefined otherwise.
 *
 * @param values of the clip, made of those of {@link valuesLike}
 */
export function flowShiftNote(
  { file, own, given }: Like,
  { settings, values }: { readonly settings: ClipSettings; readonly values: BatchValues },
  model: Shifts,
): string | undefined {
  const size = sizeText(settings), before = own["flow-shift"], models = modelShift(model, settings);
  if (size === sizeText(clipShape(own, model.defaults)) || before === undefined || before === models) return undefined;
  if (givesShift(given) || hasLevels(values)) return undefined;
  switch (values["flow-shift"]) {
    case undefined:
      return `the flow shift is ${models}, which the model has for ${size}, and not ${before} as in ${file}: ` +
        `--flow-shift ${before} keeps that`;
    case before:
      return `the flow shift is ${before}, as in ${file}, and not ${models}, which the model has for ${size}: ` +
        `--flow-shift ${models} takes that`;
    default:
      return undefined;
  }
}

function modelShift({ defaults, scheduler }: Shifts, clip: ClipSize): number {
  return trainedFlowShift(defaults.trained, clip) ?? scheduler.flowShift;
}

/** Whether the command line has a shift, or a preset that has one. */
function givesShift(given: BatchValues): boolean {
  return overlaid({}, given)["flow-shift"] !== undefined;
}

/** Whether there is a list of noise levels: a model that was distilled for such has one shift at every size. */
function hasLevels({ sigmas }: BatchValues): boolean {
  return Array.isArray(sigmas);
}

function sizeText({ width, height, frames }: ClipSize): string {
  return `${width}x${height} with ${frames} ${frames === 1 ? "frame" : "frames"}`;
}
