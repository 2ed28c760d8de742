import type { ScheduledClip, SchedulerConfig } from "../schedulers/config.ts";

/** The shift that Wan's own program uses for text to video at every size, and diffusers' guide from 720p on. */
const WAN_FLOW_SHIFT = 5;
/** The number of pixels half-way, as a factor, between 832x480 and 1280x720. Larger clips count as 720p. */
const PIXELS_720P = Math.sqrt(832 * 480 * 1280 * 720);

/**
 * Notes on a clip's schedule for a Wan model, as clauses in the terms of its folder and not of a command line.
 *
 * @param ownShift the flow shift that Wan's own program uses at every size. Default: 5, above 480p
 */
export function scheduleNotes(
  config: SchedulerConfig,
  clip: ScheduledClip,
  ownShift?: number,
): string[] {
  const notes: string[] = [];
  if (config.otherClass !== undefined && clip.scheduler === undefined) {
    const used = config.kind === "unipc" ? "UniPC" : "flow-match Euler";
    notes.push(
      `model_index.json names ${config.otherClass}, but scheduler_config.json is that of ${used}, which is used, as in ` +
        `Wan's own program`,
    );
  }
  const { flowShift } = config;
  if (ownShift !== undefined) {
    if (flowShift !== ownShift && clip.flowShift === undefined) {
      notes.push(`the model's folder has a flow shift of ${flowShift}, and Wan's own program uses ${ownShift}`);
    }
  } else if (flowShift < WAN_FLOW_SHIFT && clip.flowShift === undefined && clip.width * clip.height > PIXELS_720P) {
    notes.push(
      `the flow shift of ${flowShift} that the model's folder has is meant for 480p; at ${clip.width}x${clip.height} ` +
        `Wan's own program uses ${WAN_FLOW_SHIFT}`,
    );
  }
  return notes;
}
