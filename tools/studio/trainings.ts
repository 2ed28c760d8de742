/// <reference lib="dom" />
import type { Figures } from "../../cli/serve/trainings/log_reader.ts";
import type { trainingObject } from "../../cli/serve/trainings/training_runs.ts";
import { byId, element } from "../web/elements.ts";
import { address, ask } from "./api.ts";
import { TrainingCharts } from "./training_charts.ts";

/** A training as the server describes it. */
type Training = NonNullable<Awaited<ReturnType<typeof trainingObject>>>;

/** What the server sends of a training that is watched. */
interface Steps {
  readonly begins: boolean;
  readonly steps: readonly Figures[];
  readonly training: Training;
}

/** Time between two looks for trainings, in ms. */
const LOOK_EVERY = 10_000;
/** Steps of a mean, as in the summary that a training prints. */
const WINDOW = 20;

/** Trainings of this machine, whoever started them. One at a time is open, and its charts grow with it. */
export class Trainings {
  readonly #items = new Map<string, { readonly item: HTMLElement; readonly tell: (training: Training) => void }>();

  /** Looks for trainings, now and again. The section is hidden while there are none. */
  async follow(): Promise<void> {
    if (!document.hidden) await this.#look().catch(() => {}); // The rest of the page says that the server is gone.
    setTimeout(() => this.follow(), LOOK_EVERY);
  }

  async #look(): Promise<void> {
    const { data } = await ask<{ data: readonly Training[] }>("/v1/trainings");
    for (const training of data) {
      const item = this.#items.get(training.id) ?? this.#add(training);
      item.tell(training);
    }
    for (const [id, { item }] of this.#items) {
      if (data.some((training) => training.id === id)) continue;
      item.remove();
      this.#items.delete(id);
    }
    byId("trainings").hidden = this.#items.size === 0;
  }

  #add({ id, name }: Training) {
    const item = element("details"), summary = element("summary"), text = element("span", { className: "note" });
    const bar = element("progress", { max: 1 }), charts = element("div", { className: "charts" });
    // Only one of a name is open.
    item.name = "training";
    bar.setAttribute("aria-label", `Progress of ${name}`);
    summary.append(element("strong", { textContent: name }), " ", text, bar);
    const smooth = element("input", { type: "checkbox" }), label = element("label");
    label.append(smooth, ` Means of ${WINDOW} steps`);
    item.append(summary, label, charts);
    const tell = (training: Training) => {
      text.textContent = describe(training);
      bar.hidden = training.steps === null || training.state === "done";
      bar.value = training.step / (training.steps ?? 1);
    };
    item.addEventListener("toggle", () => {
      if (item.open) watch(id, item, { charts, smooth, tell });
    });
    byId("training-list").append(item);
    const added = { item, tell };
    this.#items.set(id, added);
    return added;
  }
}

/** Draws the figures of a training until it is closed. */
function watch(id: string, item: HTMLDetailsElement, { charts: place, smooth, tell }: {
  readonly charts: HTMLElement;
  readonly smooth: HTMLInputElement;
  readonly tell: (training: Training) => void;
}): void {
  const charts = new TrainingCharts(place), events = new EventSource(address(`/v1/trainings/${id}/events`));
  const closed = new AbortController(), { signal } = closed;
  events.addEventListener("steps", ({ data }) => {
    const { begins, steps, training } = JSON.parse(data) as Steps;
    charts.add(steps, begins);
    tell(training);
  });
  charts.smooth(smooth.checked ? WINDOW : 1);
  smooth.addEventListener("change", () => charts.smooth(smooth.checked ? WINDOW : 1), { signal });
  item.addEventListener("toggle", () => {
    if (item.open) return;
    closed.abort();
    events.close();
    charts[Symbol.dispose]();
  }, { signal });
}

function describe({ state, step, steps, seconds_left: left }: Training): string {
  const of = steps === null ? `${step} steps` : `step ${step} of ${steps}`;
  return [of, state, ...left === null ? [] : [`about ${timeText(left)} left`]].join(", ");
}

function timeText(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
