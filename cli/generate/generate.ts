import { relative } from "node:path";
import { DeviceLostError, NotFiniteError, printable, TilereelError } from "../../gpu/common/errors.ts";
import { openGpu } from "../../gpu/native/open.ts";
import type { Precision } from "../../gpu/precision.ts";
import { LastingPipeline, type OpenOptions } from "../../model/lasting_pipeline.ts";
import type { VideoPipeline } from "../../model/pipeline.ts";
import { type OnProgress, overall, partOf } from "../../model/progress.ts";
import { goesOnText, type SamplingState } from "../../model/sampling_state.ts";
import type { GenerateValues } from "../commands/generate.ts";
import { commandLine } from "../../tools/program/command_line.ts";
import { checkProfile } from "../../tools/program/profile.ts";
import { openOutput, type Output } from "../../tools/program/output.ts";
import { STDIN } from "../../tools/program/prompts_file.ts";
import { Farewell } from "../../tools/program/signals.ts";
import { formatOf } from "../../model/video/write_video.ts";
import { weightsLine } from "../../tools/program/model_options.ts";
import { checkOwn, shardWords, tellShard, withShard } from "../shards/shard.ts";
import { ShardLog } from "../shards/shard_log.ts";
import { DEFAULT_FOLDER } from "./clip_plan.ts";
import { likeNotes } from "./like.ts";
import { type KeptClip, sortClips, type SortedClips } from "./made_already.ts";
import { type Plan, planRun, type ReadyClip } from "./plan.ts";
import { checkPreview, PreviewFile, removePreviews } from "./preview.ts";
import { renderClip, type RenderOptions } from "./render_clip.ts";
import { RANDOM_SEED } from "../../tools/program/clip/clip_settings.ts";
import { removeUnfinishedClip, UnfinishedClip } from "./unfinished.ts";
import { brokenOff, clipLines, differentNotes, type FailedClip, summaryLines } from "./summary.ts";
import { openWorkshop, type Workshop } from "./workshop.ts";

type TodoClip = ReadyClip & { readonly replaces: boolean };

/**
 * Renders the missing clips that a command line asks for, and reports the results.
 *
 * @returns the exit status: 1 if a clip of several failed
 * @throws {TilereelError} if nothing can be rendered
 */
export async function generate(given: GenerateValues, prompt: string | undefined): Promise<number> {
  const plan = await planRun(given, prompt);
  const { clips, batch, shard, values } = plan;
  const sorted = await sortClips(clips, values.overwrite ?? false, precisionOf(values));
  const todo = sorted.todo as readonly TodoClip[], isBatch = batch.length > 1;
  if (values.profile !== undefined) await checkProfile(values.profile, todo.map(({ out }) => out));
  checkOwn(shard, { preview: values.preview, profile: values.profile });
  await checkPreview(values.preview, todo.map(({ out }) => out));
  if (values.preview === true) await removePreviews(sorted.made);
  await using log = await shardLog(plan, clips.length - todo.length);
  using run = new Run(plan, todo, log);
  run.tellShard();
  run.tellKept(sorted);
  // A run may have been killed just after it had written the clip.
  for (const { out } of sorted.made) await removeUnfinishedClip(out);
  const failed: FailedClip[] = [];
  let rendered = 0;
  using _ = new Farewell(() => {
    if (values.quiet) return;
    const done = sorted.made.length + rendered, goOn = goOnLine(plan);
    if (isBatch) run.output.warn(brokenOff(done, clips.length, goOn));
    else if (run.saved) {
      run.output.warn(`Stopped after step ${run.saved.step} of ${run.saved.steps}, which is kept. ${goOn}`);
    }
  });
  for (const [i, clip] of todo.entries()) {
    try {
      log?.begin(inFolder(clip, values));
      await run.render(clip, i);
      log?.made();
      rendered++;
    } catch (error) {
      // The other clips of a batch may succeed, but not if the model could not be loaded.
      if (!(error instanceof TilereelError) || !isBatch || !run.hasLoaded) throw error;
      failed.push({ out: clip.out, why: error.message });
      log?.failed({ name: inFolder(clip, values), why: error.message });
      await run.tellFailed(clip, error.message);
    }
  }
  await run.finish();
  await log?.end();
  if (isBatch) {
    const different = sorted.different.filter(({ instead }) => instead === undefined).length;
    const counts = summaryLines({ rendered, made: sorted.made.length, different, failed });
    const lines = shard ? withShard(shard, counts, folderOf(values)) : counts;
    if (values.json && !values.quiet) console.error(lines);
    else run.output.say(lines);
  }
  return failed.length > 0 ? 1 : 0;
}

/** The values that all clips share. */
class Run implements Disposable {
  readonly output: Output;
  readonly #workshop = new LastingPipeline((options) => this.#openWorkshop(options));
  #hasLoaded = false;
  /** The clip that is being made. */
  #unfinished: UnfinishedClip | undefined;
  /** A GPU was lost, perhaps because there was no memory to upload to: then no error comes before the loss. */
  #lost = false;

  constructor(
    private readonly plan: Plan,
    private readonly todo: readonly TodoClip[],
    private readonly log?: ShardLog,
  ) {
    this.output = openOutput(plan.values);
  }

  get hasLoaded(): boolean {
    return this.#hasLoaded;
  }

  /** Says which part of the batch this is. */
  tellShard(): void {
    const { shard, clips, batch, notes } = this.plan;
    for (const note of notes) this.output.note(note);
    if (shard) tellShard(shard, "clip", clips.length, batch.length, this.output);
  }

  /** How far the clip is that is being made, if that is saved. */
  get saved(): SamplingState | undefined {
    return this.#unfinished?.saved;
  }

  /** Reports the clips that exist already. */
  tellKept({ made, different }: SortedClips): void {
    if (this.plan.clips.length === 1 && made.length === 1) {
      this.output.say(`${printable(made[0]!.out)} was already made with the same settings and is kept.`);
    }
    for (const note of differentNotes(different)) this.output.note(note);
    const print = ({ out, prompt, seed, found }: KeptClip, more: { readonly different?: string }) =>
      this.#print({ file: out, ...found ?? { prompt, seed }, skipped: true, ...more });
    for (const clip of made) print(clip, {});
    for (const clip of different) if (clip.instead === undefined) print(clip, { different: clip.why });
  }

  /**
   * Renders a clip, or the rest of one that was broken off; if the GPU is lost, the rest on one that is opened anew.
   *
   * @throws {TilereelError} if the clip cannot be made
   */
  async render(clip: TodoClip, index: number): Promise<void> {
    const unfinished = this.#unfinished = new UnfinishedClip(clip, this.output.note, {
      anew: "; --no-resume begins it anew",
      isSplit: this.plan.values["split-guidance"] !== undefined,
    });
    try {
      await this.#render(clip, index, unfinished);
    } catch (error) {
      // These numbers would come again.
      if (error instanceof NotFiniteError) await unfinished.remove();
      // With its pipeline, the profile is lost.
      if (!(error instanceof DeviceLostError) || this.#workshop.current?.profile) throw error;
      const isStreaming = (this.plan.values.weights ?? "auto") === "auto";
      this.output.note(
        `the GPU was lost while working, so it is opened again${
          isStreaming ? ", with weights that are read from disk in each step," : ""
        } and the clip ${goesOnText(unfinished.latest)}`,
      );
      await this.#workshop.recover();
      this.#lost = true;
      await this.#render(clip, index, unfinished);
    }
    await unfinished.remove();
    this.#unfinished = undefined;
  }

  async #render(clip: TodoClip, index: number, unfinished: UnfinishedClip): Promise<void> {
    const { plan: { tensors, like }, todo: { length }, output: { onProgress: all, ...output } } = this;
    const shown = length > 1 ? partOf(`clip ${index + 1} of ${length}`, all) : all;
    const onProgress: OnProgress = (progress) => {
      this.log?.progress(overall(progress, "encode prompt") ?? 0);
      shown(progress);
    };
    // Loading is not part of a clip's time, because it serves all clips.
    const workshop = await this.#workshop.open({ onProgress: all, onNote: output.note }),
      { gpu: { settings: gpu }, pipeline } = workshop;
    await unfinished.open(workshop.gpu, this.plan.values["no-resume"] ?? false);
    const made = await this.#previewed(pipeline, clip, (preview) =>
      renderClip(workshop, clip, {
        ...{ ...tensors, ...preview, ...unfinished.options, onNote: output.note },
        onProgress: (progress) => {
          unfinished.onProgress(progress);
          onProgress(progress);
        },
      }));
    const { record, bytes, seconds, clamped } = made;
    for (const note of like ? likeNotes(like, record) : []) output.note(note);
    output.say(clipLines(clip, made, gpu));
    this.#print({
      ...{ file: clip.out, format: formatOf(clip.out), bytes, seconds: Number(seconds.toFixed(3)) },
      ...record,
      precisionReason: gpu.precisionReason,
      weights: pipeline.weights,
      clamped,
    });
  }

  /** Renders a clip, and shows it while it forms if that was asked for. */
  async #previewed<T>(
    pipeline: VideoPipeline,
    { out, settings: { fps = pipeline.defaults.fps } }: TodoClip,
    render: (preview: Pick<RenderOptions, "onPreview">) => Promise<T>,
  ): Promise<T> {
    const { preview } = this.plan.values;
    if (preview === undefined) return await render({});
    const file = new PreviewFile(pipeline, preview, { out, fps, onNote: this.output.note });
    let done = false;
    try {
      const made = await render({ onPreview: file.onPreview });
      done = true;
      return made;
    } finally {
      await file.end(done);
    }
  }

  /** Reports that a clip failed, and makes sure that the next one has a working GPU. */
  async tellFailed({ out, prompt, seed }: ReadyClip, why: string): Promise<void> {
    this.output.warn(`tilereel: ${out}: ${why}`);
    this.#print({ file: out, prompt, seed, error: why });
    const { current } = this.#workshop;
    // With its pipeline, the profile would be lost; its next clip fails, too.
    if (current?.profile) await current.gpu.recover();
    else await this.#workshop.recover();
  }

  /** Writes the profile and prints its summary. */
  async finish(): Promise<void> {
    const lines = await this.#workshop.current?.profile?.finish();
    if (lines !== undefined) this.output.say(lines);
  }

  [Symbol.dispose](): void {
    this.output[Symbol.dispose]();
    this.#workshop[Symbol.dispose]();
  }

  async #openWorkshop(options: OpenOptions): Promise<Workshop> {
    const clips = this.plan.batch.map(({ settings, methods, images }) => ({
      ...settings,
      ...methods.options,
      ...images.options,
    }));
    const { values } = this.plan, weights = values.weights ?? "auto";
    const less = this.#lost && weights === "auto" ? { ...values, weights: "stream" as const } : values;
    const workshop = await openWorkshop(less, clips, options);
    this.#hasLoaded = true;
    const streamed = weightsLine(workshop.pipeline.weights);
    if (streamed !== undefined) this.output.say(streamed);
    return workshop;
  }

  /** Prints a line of JSON, if that was asked for. */
  #print(object: unknown): void {
    if (this.plan.values.json) console.log(JSON.stringify(object));
  }
}

/** The precision that clips are made in. If it is not given, only the GPU can tell. */
function precisionOf({ gpu: choice, precision }: GenerateValues): () => Promise<Precision> {
  let found: Precision | undefined = precision === "auto" ? undefined : precision;
  return async () => {
    if (found === undefined) {
      const gpu = await openGpu(choice === undefined ? {} : { choice });
      found = gpu.precision;
      gpu.close();
    }
    return found;
  };
}

/** The folder of a batch. */
function folderOf({ out = DEFAULT_FOLDER }: GenerateValues): string {
  return out;
}

/** The name of a clip in it. */
function inFolder({ out }: ReadyClip, values: GenerateValues): string {
  return relative(folderOf(values), out);
}

/**
 * The log of a shard or of a whole batch, where there is one. Random seeds are no part of what its work is: each shard has
 * its own.
 */
async function shardLog({ shard, clips, batch, values }: Plan, done: number): Promise<ShardLog | undefined> {
  if (values.prompts === undefined) return undefined;
  const { model, modelDigest } = batch[0]!.record;
  return await ShardLog.open(shard, {
    ...{ folder: folderOf(values), unit: "clip", all: batch.length, total: clips.length },
    work: [values.format, model, modelDigest, batch.map(({ prompt, values }) => [prompt, values])],
    files: clips.map((clip) => inFolder(clip, values)),
  }, done);
}

/** How to continue an interrupted batch: finished clips are found by their names and records. */
function goOnLine({ values: { prompts, seed, count = 1 }, clips, shard }: Plan): string {
  const isRandom = seed === undefined || seed === RANDOM_SEED;
  // Without a seed, the same command finds a single clip that was broken off.
  if (prompts === undefined && isRandom && (count > 1 || seed === RANDOM_SEED)) {
    return `Continue with: ${commandLine()} --seed ${clips[0]!.seed}`;
  }
  const input = prompts === STDIN ? ", with the same prompts on the standard input" : "";
  const part = shard?.from === undefined ? "" : ` ${shardWords(shard)}`;
  return `Continue with: ${commandLine()}${part}${input}` +
    (seed === RANDOM_SEED ? " (with new random seeds, because of --seed -1)" : "");
}
