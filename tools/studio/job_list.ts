/// <reference lib="dom" />
import { formatDuration } from "../program/format_duration.ts";
import { button, element } from "../web/elements.ts";
import { address, type VideoJob } from "./api.ts";

/** Time between two looks at a preview, in ms: often enough to be seen, seldom enough to cost nothing. */
const PREVIEW_EVERY = 500;
/** The percents of a job that must have been seen before the time of the rest can be told. */
const LEAST_GAINED = 10;

/** The queue: jobs that have not ended, the next one first, and how far they are. */
export class JobList {
  readonly #shown = new Map<string, { readonly item: HTMLLIElement; readonly update: (job: VideoJob) => void }>();

  constructor(private readonly list: HTMLOListElement, private readonly cancel: (id: string) => void) {}

  get ids(): readonly string[] {
    return [...this.#shown.keys()];
  }

  /** Shows how far a job is. A new one is the last. */
  show(job: VideoJob): void {
    const shown = this.#shown.get(job.id) ?? this.#add(job);
    shown.update(job);
  }

  remove(id: string): void {
    this.#shown.get(id)?.item.remove();
    this.#shown.delete(id);
  }

  #add({ id, prompt }: VideoJob) {
    const item = element("li"), bar = element("progress", { max: 100 }), status = element("p", { className: "note" });
    const image = element("img", { alt: "The clip so far", hidden: true });
    bar.setAttribute("aria-label", `Progress of ${prompt}`);
    item.append(
      element("strong", { textContent: prompt }),
      bar,
      status,
      image,
      button("Cancel", () => this.cancel(id)),
    );
    this.list.append(item);
    // The page may see a job for the first time when it is half done.
    let first: { readonly at: number; readonly progress: number } | undefined, seen = 0;
    const update = ({ status: state, progress, tilereel: { stage, done, total, preview } }: VideoJob) => {
      const now = performance.now();
      if (state === "in_progress") first ??= { at: now, progress };
      bar.value = progress;
      const gained = first === undefined ? 0 : progress - first.progress;
      const left = gained > LEAST_GAINED
        ? `, about ${formatDuration((now - first!.at) / 1000 / gained * (100 - progress))} left`
        : "";
      status.textContent = state === "queued" ? "waiting" : stage ? `${stage} ${done} of ${total}${left}` : "starting";
      image.hidden = preview === undefined;
      if (preview !== undefined && now - seen > PREVIEW_EVERY) {
        seen = now;
        image.src = address(`${preview}?at=${Math.round(seen)}`);
      }
    };
    const shown = { item, update };
    this.#shown.set(id, shown);
    return shown;
  }
}
