/**
 * Renders the clips that a command line asks for.
 *
 * @module
 */
import { printable, TilereelError } from "../../gpu/common/errors.ts";
import { openGpu } from "../../gpu/native/open.ts";
import type { Precision } from "../../gpu/precision.ts";
import { partOf } from "../../model/progress.ts";
import type { GenerateValues } from "../commands/generate.ts";
import { commandLine } from "../../tools/program/command_line.ts";
import { checkProfile } from "../../tools/program/profile.ts";
import { type ProgressDisplay, showProgress } from "../../tools/program/progress.ts";
import { STDIN } from "../../tools/program/clip/prompts_file.ts";
import { Farewell } from "../../tools/program/signals.ts";
import { formatOf } from "../../model/video/write_video.ts";
import { weightsLine } from "../../tools/program/model_options.ts";
import { clipLines } from "./clip_lines.ts";
import { likeNotes } from "./like.ts";
import { type KeptClip, sortClips, type SortedClips } from "./made_already.ts";
import { type Plan, planRun, type ReadyClip } from "./plan.ts";
import { renderClip } from "./render_clip.ts";
import { RANDOM_SEED } from "./seeds.ts";
import { brokenOff, differentNotes, type FailedClip, summaryLines } from "./summary.ts";
import { fittingEmbeddings } from "./tensor_files.ts";
import { LastingWorkshop, openWorkshop, type Workshop } from "./workshop.ts";

type TodoClip = ReadyClip & { readonly replaces: boolean };

/**
 * Renders the missing clips, and reports the results.
 *
 * @returns the exit status: 1 if a clip of several failed
 * @throws {TilereelError} if nothing can be rendered
 */
export async function generate(given: GenerateValues, prompt: string | undefined): Promise<number> {
  const plan = await planRun(given, prompt);
  const { clips, values } = plan;
  const sorted = await sortClips(clips, { overwrite: values.overwrite ?? false, precision: precisionOf(values) });
  const todo = sorted.todo as readonly TodoClip[], isBatch = clips.length > 1;
  if (values.profile !== undefined) await checkProfile(values.profile, todo.map(({ out }) => out));
  using run = new Run(plan, todo);
  run.tellKept(sorted);
  const failed: FailedClip[] = [];
  let rendered = 0;
  using _ = new Farewell(() => {
    if (!isBatch || values.quiet) return;
    const done = sorted.made.length + rendered;
    run.note(brokenOff(done, clips.length, goOnLine(values, clips)));
  });
  for (const [i, clip] of todo.entries()) {
    try {
      await run.render(clip, i);
      rendered++;
    } catch (error) {
      // The other clips of a batch may succeed, but not if the model could not be loaded.
      if (!(error instanceof TilereelError) || !isBatch || !run.hasLoaded) throw error;
      failed.push({ out: clip.out, why: error.message });
      await run.tellFailed(clip, error.message);
    }
  }
  await run.finish();
  if (isBatch) {
    const different = sorted.different.filter(({ instead }) => instead === undefined).length;
    run.summary(summaryLines({ rendered, made: sorted.made.length, different, failed }));
  }
  return failed.length > 0 ? 1 : 0;
}

/** What is the same for all clips. */
class Run implements Disposable {
  readonly #progress: ProgressDisplay;
  readonly #quiet: boolean;
  readonly #json: boolean;
  readonly #noted = new Set<string>();
  readonly #workshop = new LastingWorkshop(() => this.#openWorkshop());
  #hasLoaded = false;

  constructor(private readonly plan: Plan, private readonly todo: readonly TodoClip[]) {
    const { quiet = false, json = false } = plan.values;
    [this.#quiet, this.#json] = [quiet, json];
    this.#progress = quiet ? { onProgress: () => {}, stop: () => {} } : showProgress();
  }

  get hasLoaded(): boolean {
    return this.#hasLoaded;
  }

  /** Reports the clips that exist already. */
  tellKept({ made, different }: SortedClips): void {
    if (this.plan.clips.length === 1 && made.length === 1) {
      this.#say(`${printable(made[0]!.out)} was already made with the same settings and is kept.`);
    }
    for (const note of differentNotes(different)) this.#note(note);
    if (!this.#json) return;
    for (const clip of made) this.#printKept(clip, {});
    for (const clip of different) if (clip.instead === undefined) this.#printKept(clip, { different: clip.why });
  }

  /** @throws {TilereelError} if the clip cannot be made */
  async render(clip: TodoClip, index: number): Promise<void> {
    const { onProgress: all } = this.#progress, { length } = this.todo;
    const onProgress = length > 1 ? partOf(`clip ${index + 1} of ${length}`, all) : all;
    // Loading is not part of a clip's time, because it serves all clips.
    const workshop = await this.#workshop.open(),
      { gpu, pipeline } = workshop,
      { latents, embeddings, values } = this.plan;
    const { record, bytes, seconds, report, clamped } = await renderClip(workshop, clip, {
      ...latents && { latents },
      ...embeddings && { embeddings: fittingEmbeddings(values.embeddings!, embeddings, pipeline.textDim) },
      onNote: (note) => this.#note(note),
      onProgress,
    });
    for (const note of this.plan.like ? likeNotes(this.plan.like, record) : []) this.#note(note);
    const { settings: { sigmas } } = clip;
    this.#say(clipLines({ file: clip.out, record, sigmas, bytes, seconds, report, gpu: gpu.settings }));
    if (!this.#json) return;
    printJson({
      ...{ file: clip.out, format: formatOf(clip.out), bytes, seconds: Number(seconds.toFixed(3)) },
      ...record,
      precisionReason: gpu.settings.precisionReason,
      weights: pipeline.weights,
      clamped,
    });
  }

  /** Reports that a clip failed, and makes sure that the next one has a working GPU. */
  async tellFailed({ out, prompt, seed }: ReadyClip, why: string): Promise<void> {
    this.#progress.stop();
    console.error(`tilereel: ${printable(out)}: ${why}`);
    if (this.#json) printJson({ file: out, prompt, seed, error: why });
    await this.#workshop.recover();
  }

  /** Writes the profile and prints its summary. */
  async finish(): Promise<void> {
    const lines = await this.#workshop.current?.profile?.finish();
    if (lines !== undefined) this.#say(lines);
  }

  /** Prints the summary of the run. */
  summary(lines: string): void {
    if (this.#json && !this.#quiet) console.error(lines);
    else this.#say(lines);
  }

  /** Prints a line on the standard error. */
  note(line: string): void {
    this.#progress.stop();
    console.error(printable(line));
  }

  [Symbol.dispose](): void {
    this.#progress.stop();
    this.#workshop[Symbol.dispose]();
  }

  async #openWorkshop(): Promise<Workshop> {
    const clips = this.todo.map(({ settings, methods }) => ({ ...settings, ...methods.options }));
    const workshop = await openWorkshop(this.plan.values, clips, this.#progress.onProgress);
    this.#hasLoaded = true;
    const streamed = weightsLine(workshop.pipeline.weights);
    if (streamed !== undefined) this.#say(streamed);
    return workshop;
  }

  #say(line: string): void {
    this.#progress.stop();
    if (!this.#json && !this.#quiet) console.log(line);
  }

  /** Prints each note once, even if it holds for many clips. */
  #note(note: string): void {
    if (this.#quiet || this.#noted.has(note)) return;
    this.#noted.add(note);
    this.note(`Note: ${note}.`);
  }

  #printKept({ out, prompt, seed, found }: KeptClip, more: Readonly<Record<string, unknown>>): void {
    printJson({ file: out, ...found ?? { prompt, seed }, skipped: true, ...more });
  }
}

/** The precision that clips are made in. If it is not given, only the GPU can tell. */
function precisionOf({ gpu: choice, precision }: GenerateValues): () => Promise<Precision> {
  let found: Precision | undefined = precision === "auto" ? undefined : precision;
  return async () => {
    if (found === undefined) {
      const gpu = await openGpu(choice === undefined ? {} : { choice });
      found = gpu.settings.precision;
      gpu.close();
    }
    return found;
  };
}

/** How to continue an interrupted batch: finished clips are found by their names and records. */
function goOnLine({ prompts, seed, count = 1 }: GenerateValues, clips: readonly ReadyClip[]): string {
  const isRandom = seed === undefined || seed === RANDOM_SEED;
  if (prompts === undefined && count > 1 && isRandom) {
    return `Continue with: ${commandLine()} --seed ${clips[0]!.seed}`;
  }
  const input = prompts === STDIN ? ", with the same prompts on the standard input" : "";
  return `Continue with: ${commandLine()}${input}` +
    (seed === RANDOM_SEED ? " (with new random seeds, because of --seed -1)" : "");
}

function printJson(object: unknown): void {
  console.log(JSON.stringify(object));
}
