/**
 * The page: a form, the progress of a clip, and the clips that were rendered. Its worker does the work.
 *
 * @module
 */
/// <reference lib="dom" />
import type { FileFormat } from "../../model/mod.ts";
import { comparable, Wipe } from "./compare.ts";
import { randomPrompt } from "./demo_prompts.ts";
import { droppedFiles, filesOfInput } from "./dropped_files.ts";
import { button, byId, element } from "./elements.ts";
import type { Answer, Clip, Request } from "./messages.ts";
import { imagesOf, Player } from "./player.ts";
import { routeMap } from "./route_map.ts";
import { vocabularyRows } from "./vocabulary.ts";

/** The largest clip that weights are placed for. */
const LARGEST = { width: 512, height: 512, frames: 61 };

/** What the kinds of attention are, in a sentence. */
const ABOUT: Readonly<Record<string, string>> = {
  full: "Every token looks at every other.",
  vorta: "A router sends each head to full attention, a window of tiles, or a core set of tokens.",
  veda: "Each tile looks at the tiles that matter to it.",
};

/** Clips that are kept: each holds its frames in memory. */
const MOST_CLIPS = 24;

const form = byId<HTMLFormElement>("form"), prompt = byId<HTMLTextAreaElement>("prompt");
const renderButton = byId<HTMLButtonElement>("render"), cancelButton = byId<HTMLButtonElement>("cancel");
const bar = byId<HTMLProgressElement>("progress"), status = byId("status"), error = byId("error");
const preview = byId<HTMLCanvasElement>("preview"), list = byId<HTMLOListElement>("clips");
/** Buttons that render the clip with another attention. */
const examples = [...document.querySelectorAll<HTMLButtonElement>("button[data-attention]")];
const memory = byId<HTMLInputElement>("memory"), frame = byId<HTMLInputElement>("frame");

let worker: Worker | undefined = openWorker(), hasAnswered = false;
const send = (request: Request) => (worker ??= openWorker()).postMessage(request);

const player = new Player((at, frames) => {
  frame.max = String(frames - 1);
  frame.value = String(at);
});
const wipe = new Wipe(byId("compare"), player);
/** Clips that are laid over one another, when there are two. */
let compared: { readonly clip: Clip; readonly name: string; readonly box: HTMLInputElement }[] = [];

let model: string | ReadonlyMap<string, Blob> = "demo";
/** What the worker was told. Folders are told apart by themselves: many have the same files by name. */
let opened:
  | { readonly model: string | ReadonlyMap<string, Blob>; readonly memoryLimit: number | undefined }
  | undefined;
let started = 0, saveAs = "";
const notes: string[] = [];

form.addEventListener("submit", (event) => {
  event.preventDefault();
  render();
});
cancelButton.addEventListener("click", () => send("cancel"));
form.addEventListener("input", showSettings);
for (const example of examples) {
  example.addEventListener("click", () => renderAlike(example.dataset));
}
const sizes = [...byId<HTMLDataListElement>("sizes").options];
form.addEventListener("change", ({ target }) => {
  if ((target as HTMLInputElement).name === "size") suitFrames();
});
byId("surprise").addEventListener("click", () => prompt.value = randomPrompt());
byId("play").addEventListener("click", () => setPlaying(!player.playing));
frame.addEventListener("input", () => {
  setPlaying(false);
  player.seek(Number(frame.value));
});
byId<HTMLInputElement>("folder").addEventListener("change", ({ target }) => {
  const { files } = target as HTMLInputElement;
  if (files?.length) take(filesOfInput(files));
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const files = await droppedFiles(event.dataTransfer!);
  if (files.size > 0) take(files);
});

/** Starts the worker. If it crashes, the next request gets another one. */
function openWorker(): Worker {
  const made = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  made.onmessage = ({ data }: MessageEvent<Answer>) => {
    hasAnswered = true;
    told(data);
  };
  made.onerror = (event) => {
    const message = event.message?.replace(/^Uncaught (Error: )?/, "");
    made.terminate();
    [worker, opened] = [undefined, undefined];
    ended("");
    error.textContent = hasAnswered
      ? `The page's worker crashed (${message}): press Render to go on, and please report it if it crashes again.`
      : `The page's worker could not run${message ? ` (${message})` : ""}: use a newer browser.`;
  };
  return made;
}

function told(data: Answer): void {
  if ("progress" in data) showProgress(data);
  else if ("preview" in data) {
    const images = imagesOf(data.preview), image = images[Math.floor(images.length / 2)]!;
    [preview.width, preview.height, preview.hidden] = [image.width, image.height, false];
    preview.style.width = "256px";
    preview.getContext("2d")!.putImageData(image, 0, 0);
  } else if ("adapter" in data) {
    byId("adapter").textContent = `It uses ${data.adapter.name} in ${data.precision}.`;
  } else if ("note" in data) notes.push(data.note);
  else if ("file" in data) save(data.file, data.format);
  else if ("clip" in data) {
    addClip(data.clip);
    ended(`Done in ${data.clip.seconds.toFixed(1)} s.${notes.map((note) => ` Note: ${note}.`).join("")}`);
  } else {
    ended("");
    error.textContent = data.error;
  }
}

function render(): void {
  const values = Object.fromEntries(
    [...new FormData(form)].filter(([, value]) => typeof value === "string" && value !== ""),
  ) as Record<string, string>;
  if (values.attention !== "veda") delete values.keep;
  const numbers = ["keep", "frames", "steps", "seed", "guidance"];
  const clip = Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, numbers.includes(name) ? Number(value) : value]),
  );
  openModel();
  [error.textContent, notes.length, started] = ["", 0, performance.now()];
  [bar.hidden, bar.value] = [false, 0];
  setBusy(true);
  status.textContent = "Starting";
  send({ form: clip });
}

/** Renders the clip of the form with another attention, and with noise that the next one has, too. */
function renderAlike(settings: DOMStringMap): void {
  for (const [name, value] of Object.entries(settings)) {
    (form.elements.namedItem(name) as HTMLInputElement | RadioNodeList).value = value!;
  }
  const seed = form.elements.namedItem("seed") as HTMLInputElement;
  if (seed.value === "") seed.value = "1";
  showSettings();
  byId("now").scrollIntoView({ block: "nearest" });
  form.requestSubmit();
}

/** Sets the frames that the demo model draws at the size, unless they are some of the user's own. */
function suitFrames(): void {
  const [size, frames] = ["size", "frames"].map((name) => form.elements.namedItem(name) as HTMLInputElement);
  const own = sizes.find(({ value }) => value === size!.value.replace("×", "x"))?.dataset.frames;
  if (model === "demo" && own && sizes.some(({ dataset }) => dataset.frames === frames!.value)) frames!.value = own;
}

/** Tells the worker of the model, unless it has it. */
function openModel(): void {
  const memoryLimit = memory.value === "" ? undefined : Number(memory.value) * 1e9;
  if (opened && opened.model === model && opened.memoryLimit === memoryLimit) return;
  opened = { model, memoryLimit };
  const largest = model === "demo" ? { largest: LARGEST } : {};
  const address = typeof model === "string" ? new URL(model, import.meta.url).href : model;
  send({ model: address, ...memoryLimit && { gpu: { memoryLimit } }, ...largest });
}

function take(files: ReadonlyMap<string, Blob>): void {
  model = files;
  // What follows are the model's own.
  for (const name of ["size", "frames", "steps"]) (form.elements.namedItem(name) as HTMLInputElement).value = "";
  byId("words").hidden = true;
  status.textContent = `A folder of ${files.size} files was taken. Write a prompt and press Render.`;
}

function showProgress({ progress, stage, done, total }: Extract<Answer, { readonly progress: number }>): void {
  bar.hidden = false;
  bar.value = progress;
  const seconds = (performance.now() - started) / 1000;
  const left = progress > 0.1 ? `, about ${Math.ceil(seconds / progress - seconds)} s left` : "";
  const count = stage === "denoise" || stage === "decode" ? ` ${done} of ${total}` : "";
  status.textContent = `${stage[0]!.toUpperCase()}${stage.slice(1)}${count}${left}`;
}

function ended(text: string): void {
  [bar.hidden, preview.hidden] = [true, true];
  setBusy(false);
  status.textContent = text;
}

function setBusy(busy: boolean): void {
  cancelButton.disabled = !busy;
  // The worker does one thing at a time.
  const saves = list.querySelectorAll<HTMLButtonElement>("button.save");
  for (const button of [renderButton, ...examples, ...saves]) button.disabled = busy;
}

function addClip(clip: Clip): void {
  const { record, video, density, routes, seconds } = clip, { attention, keep, seed, steps } = record;
  const name = `${attention}${keep === undefined ? "" : ` ${keep}`}, seed ${seed}`;
  const canvas = element("canvas"), caption = element("figcaption"), facts = element("dl");
  const rows = {
    attention: `${attention}${keep === undefined ? "" : `, keep ${keep}`}`,
    density: `${(100 * density).toFixed(1)} %`,
    time: `${seconds.toFixed(1)} s`,
    size: `${video.width}×${video.height}, ${video.frames} frames`,
    steps: String(steps),
    seed: String(seed),
  };
  for (const [term, text] of Object.entries(rows)) {
    facts.append(element("dt", { textContent: term }), element("dd", { textContent: text }));
  }
  caption.append(element("strong", { textContent: String(record.prompt) }), facts);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${record.prompt}: ${rows.attention}`);
  const actions = element("div", { className: "clip-actions" }), item = element("li"), figure = element("figure");
  for (const format of ["mp4", "gif", "png"] as const) {
    actions.append(button(`Save ${format.toUpperCase()}`, () => {
      saveAs = `${String(record.prompt).replace(/[^a-z0-9]+/gi, "-").slice(0, 60)}-${seed}`;
      started = performance.now();
      setBusy(true);
      send({ encode: { video, record }, format });
    }, "save"));
  }
  const box = element("input", { type: "checkbox" }), compare = element("label");
  box.addEventListener("change", () => setCompared({ clip, name, box }));
  compare.append(box, " Compare");
  actions.append(button("Use these settings", () => useSettings(record)), compare);
  figure.append(canvas, caption, actions);
  if (routes) {
    const details = element("details");
    details.append(element("summary", { textContent: "Routes of all heads" }), routeMap(routes));
    figure.append(details);
  }
  item.append(figure);
  list.prepend(item);
  player.show(canvas, video);
  byId("player").hidden = false;
  byId("no-clips").hidden = true;
  while (list.children.length > MOST_CLIPS) {
    const last = list.lastElementChild!;
    player.remove(last.querySelector("canvas")!);
    last.remove();
  }
}

/** Adds a clip to those that are compared, or takes it away. */
function setCompared(entry: (typeof compared)[number]): void {
  compared = compared.filter(({ clip }) => clip !== entry.clip);
  if (entry.box.checked) compared.push(entry);
  if (compared.length > 2) compared.shift()!.box.checked = false;
  const [left, right] = compared, place = byId("compare");
  place.hidden = !(left && right && comparable(left.clip.video, right.clip.video));
  if (left && right && !place.hidden) wipe.show(left.clip.video, right.clip.video, [left.name, right.name]);
  else wipe.hide();
  error.textContent = left && right && place.hidden ? "clips of different sizes cannot be laid over one another" : "";
}

function useSettings(record: Clip["record"]): void {
  const { width, height } = record,
    set = (name: string, value: unknown) => {
      const field = form.elements.namedItem(name);
      if (value !== undefined && field) (field as HTMLInputElement | RadioNodeList).value = String(value);
    };
  for (const name of ["prompt", "attention", "keep", "frames", "steps", "seed", "guidance"]) set(name, record[name]);
  set("size", `${width}x${height}`);
  set("negative", record.negativePrompt ?? "");
  showSettings();
  prompt.focus();
}

function showSettings(): void {
  const attention = (form.elements.namedItem("attention") as RadioNodeList).value;
  const keep = form.elements.namedItem("keep") as HTMLInputElement;
  byId("about-attention").textContent = ABOUT[attention]!;
  byId("keep-row").hidden = attention !== "veda";
  byId("keep-text").textContent = `${Math.round(100 * Number(keep.value))} %`;
}

function setPlaying(playing: boolean): void {
  player.playing = playing;
  byId("play").textContent = playing ? "Pause" : "Play";
}

function save(file: Uint8Array<ArrayBuffer>, format: FileFormat): void {
  ended("");
  const link = element("a", { href: URL.createObjectURL(new Blob([file])), download: `${saveAs}.${format}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

byId("vocabulary").append(...vocabularyRows(prompt));
setPlaying(player.playing);
showSettings();
if (!navigator.gpu) {
  error.textContent = "This browser has no WebGPU: use one that has it, over https or from localhost.";
}
