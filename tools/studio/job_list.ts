/// <reference lib="dom" />
import { formatDuration } from "../program/format_duration.ts";
import { button, element } from "../web/elements.ts";
import { address, type VideoJob } from "./api.ts";

/** Time between two looks at a preview, in ms: often enough to be seen, seldom enough to cost nothing. */
const PREVIEW_EVERY = 500;

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
    let begun: number | undefined, seen = 0;
    const update = ({ status: state, progress, tilereel: { stage, done, total, preview } }: VideoJob) => {
      if (state === "in_progress") begun ??= performance.now();
      bar.value = progress;
      const seconds = begun === undefined ? 0 : (performance.now() - begun) / 1000;
      const left = progress > 10 ? `, about ${formatDuration(seconds / (progress / 100) - seconds)} left` : "";
      status.textContent = state === "queued" ? "waiting" : stage ? `${stage} ${done} of ${total}${left}` : "starting";
      image.hidden = preview === undefined;
      if (preview !== undefined && performance.now() - seen > PREVIEW_EVERY) {
        seen = performance.now();
        image.src = address(`${preview}?at=${Math.round(seen)}`);
      }
    };
    const shown = { item, update };
    this.#shown.set(id, shown);
    return shown;
  }
}
