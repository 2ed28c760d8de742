/**
 * Makes what is missing of a comparison, and gathers all of it.
 *
 * @module
 */
import { join } from "node:path";
import config from "../../deno.json" with { type: "json" };
import type { Gpu } from "../../gpu/gpu.ts";
import { embeddedModelDir } from "../../model/embedded.ts";
import { WanPipeline } from "../../model/pipeline.ts";
import type { OnProgress } from "../../model/progress.ts";
import type { WeightsChoice, WeightsPlacement } from "../../model/wan/weights_place.ts";
import { clipExtent } from "../clip_settings.ts";
import type { ComparedPrompt, Comparison } from "./comparison.ts";
import type { ComparisonPlan, PlannedPrompt } from "./plan.ts";
import { type MadeWith, type PromptRecord, readRecord } from "./record.ts";
import type { ReadySetting } from "./ready_setting.ts";
import { clipOf, renderPrompt } from "./render.ts";
import { warmUp } from "./warm_up.ts";
import { castIdentity, type WeightDtypeChoice } from "../../model/weight_dtype.ts";

/** What a comparison runs on. */
export interface Workplace {
  readonly gpu: Gpu;
  /** A model folder. Default: the embedded model. */
  readonly model?: string;
  /** An ONNX file. */
  readonly textEncoder?: string;
  /** Where the transformer's weights lie. Default: where they fit. */
  readonly weights?: WeightsChoice;
  /** In which format the GPU holds matrices. Default: "auto". */
  readonly weightDtype?: WeightDtypeChoice;
  /** As the user typed it, for the page. */
  readonly commandLine: string;
  readonly onProgress: OnProgress;
  /** Told where they lie, once the model is loaded. */
  readonly onLoaded: (placement: WeightsPlacement) => void;
  /** Told how many prompts were there already, if any. */
  readonly onSkipped: (count: number) => void;
}

/** A prompt, and where it goes. */
interface Place {
  readonly planned: PlannedPrompt;
  readonly folder: string;
  readonly madeWith: MadeWith;
}

/**
 * Renders every prompt whose folder is not there yet.
 *
 * @throws {TilereelError} when a folder that is there was made with something else, or rendering fails
 */
export async function runComparison(
  plan: ComparisonPlan,
  settings: readonly ReadySetting[],
  workplace: Workplace,
): Promise<Comparison> {
  const { gpu, commandLine, textEncoder, model = "the embedded demo model" } = workplace;
  const { description, precision } = gpu.settings;
  const about = { model, adapter: description.name, precision, ...castIdentity(workplace.weightDtype) };
  const places = plan.prompts.map((planned): Place => ({
    planned,
    folder: join(plan.folder, planned.folder),
    madeWith: madeWith(planned, settings, { ...about, "text encoder": textEncoder ?? null }),
  }));
  const missing = (await readAll(places)).flatMap((record, i) => record === undefined ? [places[i]!] : []);
  if (missing.length < places.length) workplace.onSkipped(places.length - missing.length);
  if (missing.length > 0) await renderAll(missing, settings, workplace);
  return {
    version: config.version,
    date: new Date().toISOString(),
    commandLine,
    ...about,
    settings: settings.map(({ name, words }) => ({ name, words })),
    prompts: (await readAll(places)).map((record, i): ComparedPrompt => ({
      ...record!,
      folder: plan.prompts[i]!.folder,
    })),
  };
}

/** By names that a sentence can say. */
function madeWith(
  { prompt, seed, values: { seed: _, ...clip } }: PlannedPrompt,
  settings: readonly ReadySetting[],
  about: MadeWith,
): MadeWith {
  const list = settings.map(({ name, values, router, tiles }) => ({ name, values, router, tiles }));
  return { prompt, seed, ...about, "size or sampling": clip, "list of settings": list };
}

async function readAll(places: readonly Place[]): Promise<(PromptRecord | undefined)[]> {
  return await Promise.all(places.map(({ folder, madeWith }) => readRecord(folder, madeWith)));
}

async function renderAll(
  places: readonly Place[],
  settings: readonly ReadySetting[],
  { gpu, model, textEncoder, weights, weightDtype, onProgress, onLoaded }: Workplace,
): Promise<void> {
  const pipeline = await WanPipeline.load(model ?? embeddedModelDir(), {
    gpu,
    onProgress,
    clips: places.map(({ planned }) => clipExtent(planned.values)),
    ...textEncoder !== undefined && { textEncoder },
    ...weights !== undefined && { weights },
    ...weightDtype !== undefined && { weightDtype },
  });
  onLoaded(pipeline.weights);
  try {
    const stage = (name: string): OnProgress => (progress) =>
      onProgress({ ...progress, stage: `${name}, ${progress.stage}` });
    const clips = settings.map((setting) => clipOf(places[0]!.planned, setting, pipeline.defaults));
    await warmUp(pipeline, clips, stage("warming up"));
    for (const [i, { planned, folder, madeWith }] of places.entries()) {
      const named = places.length === 1 ? onProgress : stage(`prompt ${i + 1} of ${places.length}`);
      await renderPrompt(folder, planned, madeWith, { pipeline, settings, onProgress: named });
    }
  } finally {
    pipeline.close();
  }
}
