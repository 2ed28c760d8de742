/**
 * The studio: the page of `tilereel serve`. It asks for clips, shows how far they are, and compares them.
 *
 * @module
 */
/// <reference lib="dom" />
import { memoryFile } from "../../model/files/memory.ts";
import { readFileRecord } from "../../model/video/file_record.ts";
import { hasEnded } from "../../cli/serve/job.ts";
import { randomPrompt } from "../web/demo_prompts.ts";
import { button, byId, element } from "../web/elements.ts";
import { routeMap } from "../web/route_map.ts";
import { vocabularyRows } from "../web/vocabulary.ts";
import { address, ask, create, type FieldSchema, type VideoJob, watchJobs } from "./api.ts";
import { type Compared, Comparison } from "./comparison.ts";
import { Cost, timeText } from "./cost.ts";
import { JobList } from "./job_list.ts";
import { buildFields, formValues, useSettings } from "./settings_form.ts";
import { Together } from "./together.ts";
import { Trainings } from "./trainings.ts";

/** Clips of one page of the gallery. */
const PAGE = 24;

const form = byId<HTMLFormElement>("form"), prompt = byId<HTMLTextAreaElement>("prompt"), error = byId("error");
const jobs = byId<HTMLOListElement>("jobs"), clips = byId<HTMLOListElement>("clips");
const time = byId<HTMLInputElement>("time"), older = byId<HTMLButtonElement>("older");

const cost = new Cost(byId("cost"), formValues);
const together = new Together((share) => time.value = String(share));
const comparison = new Comparison(byId("compare"), together);
const queue = new JobList(jobs, (id) => attempt(() => ask(`/v1/videos/${id}/cancel`, { method: "POST" })));
/** The clips of the gallery by their ids. */
const cards = new Map<string, HTMLLIElement>();
let compared: (Compared & { readonly box: HTMLInputElement })[] = [];
let last: string | undefined, fps = 16;

form.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(render);
});
form.addEventListener("input", () => cost.update());
byId("surprise").addEventListener("click", () => prompt.value = randomPrompt());
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

/** Does work; a failure is shown. */
async function attempt(work: () => Promise<void>) {
  error.textContent = "";
  try {
    await work();
  } catch (failure) {
    error.textContent = (failure as Error).message;
  }
}

async function open(): Promise<void> {
  const { data: [model] } = await ask<{ data: { id: string; defaults: { fps: number } }[] }>("/v1/models");
  fps = model!.defaults.fps;
  byId("model").textContent = `Renders with ${model!.id} on this machine.`;
  const { components } = await ask<{
    components: { schemas: { CreateVideo: { properties: Readonly<Record<string, FieldSchema>> } } };
  }>("/openapi.json");
  buildFields(components.schemas.CreateVideo.properties);
  if (model!.id === "embedded") showVocabulary();
  await loadClips();
  watchJobs({
    onJob: (job) => {
      if (hasEnded(job)) ended(job);
      else queue.show(job);
      showEmpty();
    },
    onDeleted: forget,
    onWaiting: (ids) => {
      for (const id of queue.ids.filter((id) => !ids.includes(id))) attempt(() => missed(id));
    },
  });
  cost.update();
}

/** Shows what became of a job that ended unseen. */
async function missed(id: string): Promise<void> {
  const job = await ask<VideoJob>(`/v1/videos/${id}`).catch(() => undefined);
  if (job) ended(job);
  else forget(id);
}

/** Moves a job from the queue to the clips. */
function ended(job: VideoJob): void {
  queue.remove(job.id);
  if (!cards.has(job.id)) clips.prepend(card(job));
  showEmpty();
  cost.update();
}

/** Shows nothing of a job any more. */
function forget(id: string): void {
  queue.remove(id);
  const item = cards.get(id), video = item?.querySelector("video");
  if (video) together.remove(video);
  item?.remove();
  cards.delete(id);
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
    const job = await create(seed === undefined || seed < 0 ? values : { ...values, seed: seed + i });
    // It may have ended meanwhile.
    if (!cards.has(job.id)) queue.show(job);
  }
}

async function loadClips(): Promise<void> {
  const page = await ask<{ data: VideoJob[]; last_id: string | null; has_more: boolean }>(
    `/v1/videos?limit=${PAGE}${last === undefined ? "" : `&after=${last}`}`,
  );
  last = page.last_id ?? last;
  older.hidden = !page.has_more;
  for (const job of page.data) if (hasEnded(job) && !cards.has(job.id)) clips.append(card(job));
  showEmpty();
}

function showEmpty(): void {
  byId("no-jobs").hidden = jobs.children.length > 0;
  byId("no-clips").hidden = clips.children.length > 0;
}

/** A clip of the gallery, or what became of a job that failed. */
function card(job: VideoJob): HTMLLIElement {
  const { id, prompt, tilereel: { record, values, seed, took, notes = [] } } = job;
  const item = element("li"), actions = element("div", { className: "clip-actions" });
  cards.set(id, item);
  const attention = record ? `${record.attention}${record.keep === undefined ? "" : `, keep ${record.keep}`}` : "";
  const again = () => useSettings(record ?? { ...values, prompt, seed });
  actions.append(button("Use these settings", again));
  if (job.status === "completed") {
    const source = address(`/v1/videos/${id}/content`), video = element("video", { src: source });
    video.setAttribute("aria-label", `${prompt}: ${attention}`);
    item.append(video);
    together.add(video);
    const link = element("a", { href: source, download: `${id}.mp4`, textContent: "Save", className: "button" });
    const box = element("input", { type: "checkbox" }), compare = element("label");
    box.addEventListener("change", () => setCompared({ source, name: `${attention}, seed ${seed}`, box }));
    compare.append(box, " Compare");
    actions.append(link, compare);
  }
  const remove = async () => {
    await ask(`/v1/videos/${id}`, { method: "DELETE" });
    forget(id);
  };
  actions.append(button("Delete", () => attempt(remove)));
  const facts = element("dl");
  const rows: Readonly<Record<string, string | undefined>> = {
    attention,
    density: typeof record?.density === "number" ? `${(100 * record.density).toFixed(1)} %` : undefined,
    time: took === undefined ? undefined : timeText(took),
    size: `${job.size}, ${job.tilereel.frames} frames`,
    steps: record && String(record.steps),
    seed: String(seed),
    failed: job.error?.message,
    note: notes.join("; ") || undefined,
  };
  for (const [term, text] of Object.entries(rows)) {
    if (text) facts.append(element("dt", { textContent: term }), element("dd", { textContent: text }));
  }
  item.append(element("strong", { textContent: prompt }), facts, actions);
  if (job.tilereel.routed) {
    const details = element("details"), summary = element("summary", { textContent: "Routes of all heads" });
    details.append(summary);
    details.addEventListener("toggle", () => attempt(() => showRoutes(id, details)), { once: true });
    item.append(details);
  }
  return item;
}

async function showRoutes(id: string, place: HTMLElement): Promise<void> {
  const { routes } = await ask<{ routes: readonly (readonly string[])[] }>(`/v1/videos/${id}/routes`);
  place.append(routeMap(routes.map((step) => step.map((heads) => Uint8Array.from(heads, Number)))));
}

/** Adds a clip to those that are compared, or takes it away. */
function setCompared(entry: (typeof compared)[number]): void {
  compared = compared.filter(({ source }) => source !== entry.source);
  if (entry.box.checked) compared.push(entry);
  if (compared.length > 2) compared.shift()!.box.checked = false;
  const [left, right] = compared;
  comparison.hide();
  if (left && right) comparison.show(left, right);
}

/** Takes the settings of a clip that tilereel wrote. */
async function useFile(file: File): Promise<void> {
  const record = await readFileRecord(memoryFile(file.name, new Uint8Array(await file.arrayBuffer())));
  if (!record) throw new Error(`${file.name} does not say how it was made: drop a clip that tilereel wrote`);
  useSettings(record);
}

function setPlaying(playing: boolean): void {
  together.setPlaying(playing);
  byId("play").textContent = playing ? "Pause" : "Play";
}

function step(frames: number): void {
  setPlaying(false);
  together.step(frames, fps);
}

setPlaying(together.playing);
await attempt(open);
await new Trainings().follow();
