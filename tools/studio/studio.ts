/**
 * The studio: the page of `tilereel serve`. It asks for clips, shows how far they are, and compares them.
 *
 * @module
 */
/// <reference lib="dom" />
import { blobFolder } from "../../model/files/blobs.ts";
import { readFileRecord } from "../../model/video/file_record.ts";
import { hasEnded } from "../../cli/serve/job.ts";
import { randomPrompt } from "../web/demo_prompts.ts";
import { byId } from "../web/elements.ts";
import { vocabularyRows } from "../web/vocabulary.ts";
import { ask, contentOf, create, type FieldSchema, type VideoJob, type VideoPage, watchJobs } from "./api.ts";
import { clipCard } from "./clip_card.ts";
import { type Compared, Comparison } from "./comparison.ts";
import { Curve } from "./curve.ts";
import { Cost } from "./cost.ts";
import { JobList } from "./job_list.ts";
import { PictureFields, type PictureNeeds } from "./picture_fields.ts";
import { buildFields, formValues, useSettings, type UsualAttention } from "./settings_form.ts";
import { Together } from "./together.ts";
import { Trainings } from "./trainings.ts";

/** What the server calls the demo model. */
const DEMO = "embedded";
/** Clips of one page of the gallery, and of the longest that the server gives. */
const PAGE = 24, LONGEST_PAGE = 100;

const form = byId<HTMLFormElement>("form"), prompt = byId<HTMLTextAreaElement>("prompt"), error = byId("error");
const jobs = byId<HTMLOListElement>("jobs"), clips = byId<HTMLOListElement>("clips");
const time = byId<HTMLInputElement>("time"), older = byId<HTMLButtonElement>("older");

const cost = new Cost(byId("cost"), formValues);
const together = new Together((share, frame, frames) => {
  time.value = String(share);
  time.setAttribute("aria-valuetext", `frame ${frame} of ${frames}`);
  byId("frame").textContent = `${frame} of ${frames}`;
});
const comparison = new Comparison(byId("compare"), together);
const queue = new JobList(jobs, (id) => attempt(() => ask(`/v1/videos/${id}/cancel`, { method: "POST" })));
/** The clips of the gallery by their ids. */
const cards = new Map<string, { readonly item: HTMLLIElement; readonly created: number }>();
/** The jobs that the server listed, the newest first, without those that are gone: the next page follows the last. */
const listed = new Set<string>();
let compared: readonly Compared[] = [];
let curve: Curve | undefined, pictures: PictureFields | undefined;

form.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(render);
});
form.addEventListener("input", () => cost.update());
byId("surprise").addEventListener("click", () => prompt.value = randomPrompt());
byId("make-curve").addEventListener("click", () => {
  if (form.reportValidity()) attempt(makeCurve);
});
byId("play").addEventListener("click", () => setPlaying(!together.playing));
byId("back").addEventListener("click", () => step(-1));
byId("forward").addEventListener("click", () => step(1));
time.addEventListener("input", () => {
  setPlaying(false);
  together.seek(Number(time.value));
});
older.addEventListener("click", () => attempt(loadClips));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer?.files ?? [];
  if (file) attempt(() => useFile(file));
});

/** Does what the user asked for; a failure is shown. */
async function attempt(work: () => Promise<void>) {
  error.textContent = "";
  await inBackground(work);
}

/** Does work; a failure is shown. What went wrong before is still to be read. */
async function inBackground(work: () => Promise<void>) {
  try {
    await work();
  } catch (failure) {
    error.textContent = (failure as Error).message;
  }
}

async function open(): Promise<void> {
  const { data: [model] } = await ask<{
    data: { id: string; defaults: UsualAttention & { fps: number }; pictures: PictureNeeds }[];
  }>("/v1/models");
  pictures = new PictureFields(byId("pictures"), model!.pictures);
  together.fps = model!.defaults.fps;
  byId("model").textContent = `Renders with ${model!.id === DEMO ? "the demo model" : model!.id} on this machine.`;
  const { components } = await ask<{
    components: { schemas: { CreateVideo: { properties: Readonly<Record<string, FieldSchema>> } } };
  }>("/openapi.json");
  const { properties } = components.schemas.CreateVideo;
  buildFields(properties, model!.defaults);
  curve = new Curve(byId("curve"), properties, queued, attempt);
  if (model!.id === DEMO) showVocabulary();
  await loadClips();
  watchJobs({
    onJob: (job) => {
      if (hasEnded(job)) ended(job);
      else queue.show(job);
      showEmpty();
    },
    onDeleted: forget,
    onWaiting: (ids) => {
      for (const id of queue.ids.filter((id) => !ids.includes(id))) inBackground(() => missed(id));
      inBackground(catchUp);
    },
    onAnswers: (answers) => byId("gone").hidden = answers,
  });
  cost.update();
}

/** Shows what became of a job that ended unseen. */
async function missed(id: string): Promise<void> {
  const job = await ask<VideoJob>(`/v1/videos/${id}`).catch(() => undefined);
  if (job) ended(job);
  else forget(id);
}

/** Shows what others did while nobody saw this page: another tab may have made clips, and deleted some. */
async function catchUp(): Promise<void> {
  const { data, has_more } = await ask<VideoPage>(`/v1/videos?limit=${LONGEST_PAGE}`);
  const ids = new Set(data.map(({ id }) => id)), oldest = has_more ? data.at(-1)!.created_at : -Infinity;
  for (const [id, { created }] of cards) if (created > oldest && !ids.has(id)) forget(id);
  const known = data.findIndex(({ id }) => cards.has(id)), fresh = data.slice(0, known < 0 ? undefined : known);
  for (const job of fresh.toReversed()) if (hasEnded(job)) ended(job);
}

/** Moves a job from the queue to the clips. */
function ended(job: VideoJob): void {
  queue.remove(job.id);
  if (!cards.has(job.id)) clips.prepend(card(job));
  showEmpty();
  cost.update();
  inBackground(() => curve!.add(job));
}

/** Shows nothing of a job any more. */
function forget(id: string): void {
  queue.remove(id);
  const { item } = cards.get(id) ?? {}, video = item?.querySelector("video");
  if (video) together.remove(video);
  const left = compared.filter(({ source }) => source !== contentOf(id));
  if (left.length < compared.length) comparison.show(compared = left);
  item?.remove();
  cards.delete(id);
  listed.delete(id);
  showEmpty();
}

function showVocabulary(): void {
  byId("words").hidden = false;
  prompt.value = "a big red circle moving right on a black background";
  byId("vocabulary").append(...vocabularyRows(prompt));
}

async function render(): Promise<void> {
  const values: Record<string, unknown> = formValues(), copies = Number(byId<HTMLInputElement>("copies").value);
  const seed = values.seed === undefined ? undefined : Number(values.seed);
  for (let i = 0; i < copies; i++) {
    const job = await create(seed === undefined || seed < 0 ? values : { ...values, seed: seed + i }, pictures?.chosen);
    queued(job);
  }
}

function queued(job: VideoJob): void {
  // It may have ended meanwhile.
  if (!cards.has(job.id)) queue.show(job);
  showEmpty();
}

/** Begins a curve with the clip of the form with full attention; the rest is asked for there. */
async function makeCurve(): Promise<void> {
  const values: Record<string, unknown> = formValues();
  // All clips of a curve have the same noise.
  const seed = values.seed === undefined || Number(values.seed) < 0 ? randomSeed() : Number(values.seed);
  await curve!.begin({ ...values, seed }, pictures?.chosen);
}

async function loadClips(): Promise<void> {
  const last = [...listed].at(-1);
  const page = await ask<VideoPage>(`/v1/videos?limit=${PAGE}${last === undefined ? "" : `&after=${last}`}`);
  for (const { id } of page.data) listed.add(id);
  older.hidden = !page.has_more;
  for (const job of page.data) if (hasEnded(job) && !cards.has(job.id)) clips.append(card(job));
  showEmpty();
}

function showEmpty(): void {
  byId("no-jobs").hidden = jobs.children.length > 0;
  byId("no-clips").hidden = clips.children.length > 0;
}

/** Adds the card of a clip to the gallery. */
function card(job: VideoJob): HTMLLIElement {
  const item = clipCard(job, {
    ...{ together, attempt },
    use: (record) => {
      useSettings(record);
      attempt(async () => await pictures?.use(job.tilereel.pictures));
    },
    compare: setCompared,
    curve: (of) => curve!.show(of),
    remove: async ({ id }) => {
      await ask(`/v1/videos/${id}`, { method: "DELETE" });
      forget(id);
    },
  });
  cards.set(job.id, { item, created: job.created_at });
  return item;
}

/** Adds a clip to those that are compared, or takes it away. */
function setCompared(entry: Compared, isCompared: boolean): void {
  compared = compared.filter(({ source }) => source !== entry.source);
  if (isCompared) compared = [...compared, entry];
  comparison.show(compared);
}

/** Takes the settings of a clip that tilereel wrote, or a picture to make a clip of. */
async function useFile(file: File): Promise<void> {
  // Such files never say how they were made.
  if (/^image\/(jpeg|webp)$/.test(file.type) && pictures?.take(file)) return;
  const record = await readFileRecord(blobFolder(new Map([[file.name, file]]), "dropped").file(file.name));
  if (!record) {
    if (file.type.startsWith("image/") && pictures?.take(file)) return;
    throw new Error(`${file.name} does not say how it was made: drop a clip that tilereel wrote`);
  }
  useSettings(record);
  await pictures?.use();
  if (record.image) throw new Error(`the clip was made of the picture ${record.image}: choose it, too`);
}

function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0]!;
}

function setPlaying(playing: boolean): void {
  together.setPlaying(playing);
  byId("play").textContent = playing ? "Pause" : "Play";
}

function step(frames: number): void {
  setPlaying(false);
  together.step(frames);
}

setPlaying(together.playing);
await attempt(open);
await new Trainings().follow();
