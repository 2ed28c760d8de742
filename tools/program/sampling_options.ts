import type { HeadShape } from "../../model/attention/layout.ts";
import { madeFor } from "../../model/attention/made_for.ts";
import { checkTrainable } from "../../model/training/trainable.ts";
import { createHash } from "node:crypto";
import { TilereelError } from "../../gpu/common/errors.ts";
import { LARGEST_SEED } from "../../model/noise.ts";
import type { TrainingIdentity } from "../../model/training/identity.ts";
import { modelKey } from "../../model/identity/model_identity.ts";
import type { SampledClip } from "../../model/training/data/sampled_clip.ts";
import { type SamplingRuns, samplingRuns } from "../../model/veda/sampling_states.ts";
import type { Grid } from "../../model/attention/grid.ts";
import { clipOptions, type ClipValues, samplingOptions } from "./clip/clip_options.ts";
import { clipValuesOf } from "./clip/clip_settings.ts";
import type { LongRun } from "./long_run.ts";
import { inGroup, integer, type OptionValues, path } from "./options.ts";
import { clipsOfPrompts, type LargestOfPrompts, largestOfPrompts } from "./clips_of_prompts.ts";
import {
  loadPipeline,
  type ModelValues,
  openNamedFolder,
  type trainedModelOptions,
  variantOf,
} from "./model_options.ts";

const CLIPS = "Clips that the model samples";
const { steps: _, ...ofAllSteps } = samplingOptions;

/** How clips are sampled to learn from them; `--steps` and `--seed` are the training's. */
export const sampledClipOptions = (group: string) =>
  inGroup(group, {
    "sampling-steps": integer({
      help: "Number of denoising steps of a clip.",
      elsewhere: ["num-inference-steps"],
      default: "the model's",
      min: 1,
      max: 1000,
    }),
    ...ofAllSteps,
  });

/**
 * What the options say of the clips that are sampled, or read.
 *
 * @throws {TilereelError} if they contradict one another
 */
export function sampledClipValues(
  values: ClipValues & OptionValues<ReturnType<typeof sampledClipOptions>>,
): ClipValues {
  const { steps: _, seed: __, "sampling-steps": steps, ...rest } = values;
  return clipValuesOf({ ...rest, ...steps !== undefined && { steps } });
}

/** The table of options that describe sampling runs. */
export const samplingRunOptions = inGroup(CLIPS, {
  prompts: path({
    short: "p",
    value: "FILE",
    help: 'Prompts, one per line, or JSON objects as "tilereel generate --prompts" takes them. Nothing else is needed.',
  }),
  size: clipOptions.size,
  frames: clipOptions.frames,
  ...sampledClipOptions(CLIPS),
  seed: integer({
    help: "Seed of all random numbers. The same seed on the same adapter gives the same result.",
    default: 0,
    min: 0,
    max: LARGEST_SEED,
  }),
});

/** The values of these options and of the model's. */
export type SamplingValues = OptionValues<typeof samplingRunOptions & typeof trainedModelOptions>;

/** The clips to sample, known before anything is loaded. */
export interface SamplingPlan {
  /** The options of the model. */
  readonly values: ModelValues;
  readonly clips: readonly SampledClip[];
  /** What the prompts say of the largest of them. */
  readonly largest: LargestOfPrompts;
  /** Tokens of the first clip. */
  readonly grid: Grid;
  /** Whether all clips are of that grid. */
  readonly oneGrid: boolean;
  /** The model's. */
  readonly shape: HeadShape;
}

/**
 * Reads the prompts.
 *
 * @throws {TilereelError} if there are none, or they do not fit the model
 */
export async function planSampling(values: SamplingValues): Promise<SamplingPlan> {
  const { prompts, seed = 0 } = values;
  if (prompts === undefined) {
    throw new TilereelError(
      "--prompts FILE is missing: the model samples clips from these prompts and learns from them",
    );
  }
  const folder = await openNamedFolder(values);
  checkTrainable(folder.family);
  const given = { generation: folder.generation, values: sampledClipValues(values) };
  const clips = await clipsOfPrompts(prompts, { ...given, seed }), largest = await largestOfPrompts(prompts, given);
  using opened = await folder.family.open(folder);
  const grids = clips.map((clip) => opened.layout(clip).grid);
  const oneGrid = grids.every((grid) => String(grid) === String(grids[0]));
  return { values, clips, largest, grid: grids[0]!, oneGrid, shape: opened.shape };
}

/** Runs that are ready. */
export type OpenRuns = Disposable & { readonly runs: SamplingRuns };

/**
 * Loads the model and embeds the prompts. The model is held until the runs are disposed of.
 *
 * @throws {TilereelError} if it cannot be loaded
 */
export async function openSamplingRuns(
  { gpu, onProgress }: Pick<LongRun, "gpu" | "onProgress">,
  { values, clips }: SamplingPlan,
): Promise<OpenRuns> {
  using cleanUp = new DisposableStack();
  const pipeline = await loadPipeline(values, { gpu, clips, onProgress });
  cleanUp.defer(() => pipeline.close());
  const runs = await samplingRuns(gpu, pipeline, clips, onProgress), held = cleanUp.move();
  return { runs, [Symbol.dispose]: () => held.dispose() };
}

/** Everything that the runs depend on. */
export async function samplingIdentity(
  { values, clips }: Pick<SamplingPlan, "values" | "clips">,
): Promise<TrainingIdentity> {
  const same = <T>(of: (clip: SampledClip) => T) =>
    clips.every((clip) => of(clip) === of(clips[0]!)) ? String(of(clips[0]!)) : "several";
  const folder = await openNamedFolder(values);
  return {
    model: await modelKey(folder, await variantOf(values)),
    ...madeFor(folder.family),
    size: same(({ width, height }) => `${width}x${height}`),
    frames: same(({ frames }) => frames),
    "sampling-steps": same(({ steps }) => steps),
    guidance: same(({ guidance }) => guidance),
    "digest of the clips": createHash("sha256").update(JSON.stringify(clips)).digest("hex").slice(0, 16),
  };
}
