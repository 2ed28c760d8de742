import type { HeadShape } from "../../../model/attention/layout.ts";
import { madeFor } from "../../../model/attention/made_for.ts";
import { createHash } from "node:crypto";
import { TilereelError } from "../../../gpu/common/errors.ts";
import type { ModelFolder } from "../../../model/checkpoint/model_folder.ts";
import { modelKey } from "../../../model/identity/model_identity.ts";
import { captionedClips } from "../../../model/training/data/captioned_clips.ts";
import { findClips } from "../../../model/training/data/clip_folder.ts";
import { encodedSet } from "../../../model/training/data/encoded_set.ts";
import { LatentCache } from "../../../model/training/data/latent_cache.ts";
import { sampledSet } from "../../../model/training/data/sampled_set.ts";
import type { TrainingSet } from "../../../model/training/data/training_set.ts";
import type { TrainingIdentity } from "../../../model/training/identity.ts";
import { routerFor, routerShape } from "../../../model/vorta/router.ts";
import { loadRouter, type RouterOfSize } from "../../../model/vorta/router_file.ts";
import type { VortaSettings } from "../../../model/vorta/settings.ts";
import type { ClipSize } from "../../../model/video_size.ts";
import { clipShape } from "../../../tools/program/clip/clip_settings.ts";
import { clipsOfPrompts, largestOfPrompts } from "../../../tools/program/clips_of_prompts.ts";
import type { LongRun } from "../../../tools/program/long_run.ts";
import { STDIN } from "../../../tools/program/prompts_file.ts";
import { variantOf } from "../../../tools/program/model_options.ts";
import { sampledClipOptions, sampledClipValues } from "../../../tools/program/sampling_options.ts";
import { withoutSizes } from "../add_to.ts";
import type { ShownClip } from "../next_commands.ts";
import { DEFAULT_CACHE, type RouterValues } from "./options.ts";

/** The options that only one of the two sources of data knows. */
const OF_PROMPTS = Object.keys(sampledClipOptions("")) as (keyof ReturnType<typeof sampledClipOptions>)[];
const OF_DATA = ["fps"] as const;

/** @throws {TilereelError} if there is no data, or data of two kinds, or an option contradicts another */
export function checkData(values: RouterValues): void {
  const { prompts, data } = values;
  if ((prompts === undefined) === (data === undefined)) {
    throw new TilereelError(
      `give ${data === undefined ? "" : "only one of "}--prompts FILE (the model renders the clips) ` +
        `or --data DIR (a folder of clips with captions)`,
    );
  }
  if (prompts === STDIN) {
    throw new TilereelError("--prompts - is read when the training is resumed, too: write the prompts into a file");
  }
  const other = (data === undefined ? OF_DATA : OF_PROMPTS).find((name) => values[name] !== undefined);
  if (other !== undefined) {
    throw new TilereelError(
      `--${other} has no effect with ${data === undefined ? "--prompts" : "--data"}: leave it out`,
    );
  }
  if (values.shard !== undefined && !values.prepare) {
    throw new TilereelError("--shard is a part of the latents, but a training is one piece of work: add --prepare");
  }
  if (values.prepare && values.resume) {
    throw new TilereelError("--prepare makes latents, and --resume continues a training: leave one of them out");
  }
}

/** Chooses among the items of a set; items with equal keys are the same sample. */
type Choose = <T>(items: readonly T[], key: (item: T) => string) => Promise<readonly T[]>;

/**
 * The samples to train on. Those that the cache lacks are made now, by a copy of the model that is closed again.
 *
 * @param choose makes some of them alone
 * @throws {TilereelError} if prompts or clips cannot be read or do not fit the model
 */
export async function openData(
  values: RouterValues,
  { gpu, onProgress, note: onNote, signal }: LongRun,
  folder: ModelFolder,
  choose: Choose = (items) => Promise.resolve(items),
): Promise<TrainingSet> {
  const { prompts, seed = 0 } = values, given = sampledClipValues(values), model = folder.path;
  // Opened last, so that nothing is made where prompts or clips are wrong.
  const options = async () => {
    const cache = await LatentCache.open(values.cache ?? DEFAULT_CACHE, onNote);
    return { gpu, model, variant: await variantOf(values), cache, onProgress, signal };
  };
  if (prompts !== undefined) {
    const clips = await clipsOfPrompts(prompts, { generation: folder.generation, values: given, seed });
    return await sampledSet(await choose(clips, (clip) => JSON.stringify(clip)), await options());
  }
  const clips = await captionedClips(values.data!, clipShape(given, folder.generation), folder.family, onNote);
  const chosen = await choose(clips, ({ caption, origin }) => JSON.stringify([caption, origin]));
  return await encodedSet(chosen, await options());
}

/**
 * The sizes of the clips, each once.
 *
 * @throws {TilereelError} if the prompts cannot be read
 */
export async function sizesOf(values: RouterValues, folder: ModelFolder): Promise<ClipSize[]> {
  const { prompts, seed = 0 } = values, given = sampledClipValues(values), { generation } = folder;
  const clips: readonly ClipSize[] = prompts === undefined
    ? [clipShape(given, generation)]
    : await clipsOfPrompts(prompts, { generation, values: given, seed });
  const found = new Map(
    clips.map(({ width, height, frames }) => [`${width}x${height}x${frames}`, { width, height, frames }]),
  );
  return [...found.values()];
}

/**
 * The routers of the file of --add-to, one for each size.
 *
 * @param shape of the model that the others in the result are for
 * @throws {TilereelError} if the file does not say for which sizes they are, or they are for another model
 */
export async function loadOthers(file: string | undefined, shape: HeadShape): Promise<readonly RouterOfSize[]> {
  if (file === undefined) return [];
  const { sizes } = await loadRouter(file);
  if (!sizes) throw withoutSizes(file, "routers");
  for (const { router } of sizes) routerFor(router, routerShape(shape), `--add-to ${file}`);
  return sizes;
}

/** The options whose values a router's file has for all of its sizes, or for none. */
const ATTENTION = ["tile", "window", "bucket", "rate"] as const;

/**
 * Checks that the file of a router for several sizes can say what was asked for.
 *
 * @param all the settings of every size
 * @throws {TilereelError} if some were given, and the defaults of others differ from size to size
 */
export function checkSettingsOfSizes(values: RouterValues, all: readonly VortaSettings[]): void {
  const given = ATTENTION.filter((name) => values[name] !== undefined);
  const differing = ATTENTION.filter((name) => all.some((one) => String(one[name]) !== String(all[0]![name])));
  if (given.length === 0 || differing.length === 0) return;
  const options = (names: readonly string[]) => names.map((name) => `--${name}`).join(" and ");
  throw new TilereelError(
    `${options(given)} would not come into the router's file, because the defaults of ${
      options(differing)
    } differ for ` +
      `clips of these sizes: give ${options(differing)}, too, or train one size after the other with --add-to`,
    { option: given[0]! },
  );
}

/** A clip for the next commands: the largest of the prompts, or one with the first caption. */
export async function shownClip(values: RouterValues, { generation }: ModelFolder): Promise<ShownClip> {
  const { prompts, data } = values;
  return prompts === undefined
    ? { prompt: (await findClips(data!))[0]!.caption, steps: generation.steps }
    : await largestOfPrompts(prompts, { generation, values: sampledClipValues(values) });
}

/** What the data and the model are, beyond what the trainer sees of them. */
export async function dataIdentity(
  values: RouterValues,
  folder: ModelFolder,
  data: TrainingSet,
): Promise<TrainingIdentity> {
  const { generation } = folder;
  const { width, height } = values.size ?? generation;
  return {
    model: await modelKey(folder, await variantOf(values)),
    ...madeFor(folder.family),
    ...values.prompts === undefined
      ? { source: "clips", "digest of the clips": data.digest.slice(0, 16) }
      : { source: "prompts", "digest of the prompts": digest(await Deno.readTextFile(values.prompts)) },
    size: `${width}x${height}`,
    frames: values.frames ?? generation.frames,
    ...values.data === undefined
      ? {
        "sampling-steps": values["sampling-steps"] ?? generation.steps,
        guidance: values.guidance ?? generation.guidance,
        negative: values.negative ?? "",
        scheduler: values.scheduler ?? "the model's",
        "flow-shift": values["flow-shift"] ?? "the model's",
        ...values.sigmas !== undefined && { sigmas: String(values.sigmas) },
      }
      : { fps: values.fps ?? generation.fps },
  };
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 16);
}
