/// <reference lib="dom" />
import { button, element } from "../web/elements.ts";
import { routeMap } from "../web/route_map.ts";
import { ask, contentOf, type VideoJob } from "./api.ts";
import type { Compared } from "./comparison.ts";
import { shareText, timeText } from "./cost.ts";
import { TileView } from "./tile_view.ts";
import type { Together } from "./together.ts";

/** What a card has done. */
export interface CardActions {
  /** Plays the clip with the others. */
  readonly together: Together;
  /** Does work, and shows what went wrong. */
  readonly attempt: (work: () => Promise<void>) => void;
  /** Fills the form with a record. */
  readonly use: (record: Readonly<Record<string, unknown>>) => void;
  readonly compare: (clip: Compared, isCompared: boolean) => void;
  readonly curve: (job: VideoJob) => Promise<void>;
  readonly remove: (job: VideoJob) => Promise<void>;
}

/** A clip of the gallery with what it was made with, or what became of a job that failed. */
export function clipCard(job: VideoJob, does: CardActions): HTMLLIElement {
  const { id, prompt, size, error, tilereel } = job, { record, values, seed, took, tiles, routed, frames } = tilereel;
  const item = element("li"), actions = element("div", { className: "clip-actions" }), attention = attentionOf(job);
  const made = { ...record ?? { ...values, prompt, seed }, tileMap: tiles };
  const facts = [
    ...typeof record?.density === "number" ? [`density ${shareText(record.density)}`] : [],
    ...took === undefined ? [] : [timeText(took)],
    `${size}, ${frames} frames`,
    ...record ? [`${record.steps} steps`] : [],
    `seed ${seed}`,
  ];
  const about = (textContent: string, className: string) => element("p", { textContent, className });
  if (job.status === "completed") {
    const source = contentOf(id), video = element("video", { src: source });
    video.setAttribute("aria-label", `${prompt}: ${attention}`);
    item.append(video);
    does.together.add(video);
    const box = element("input", { type: "checkbox" }), compare = element("label", { className: "check" });
    const clip: Compared = { source, name: `${attention}, seed ${seed}`, size: `${size} ${frames}` };
    box.addEventListener("change", () => does.compare(clip, box.checked));
    compare.append(box, " Compare");
    item.append(compare);
    actions.append(
      button("Curve", () => does.attempt(() => does.curve(job))),
      element("a", { href: source, download: `${id}.mp4`, textContent: "Save", className: "button" }),
    );
  }
  actions.prepend(
    button("Use these settings", () => does.use(made)),
    button("Vary", () => does.use({ ...made, seed: undefined })),
  );
  actions.append(
    button("Delete", () => does.attempt(() => does.remove(job))),
  );
  item.append(
    element("strong", { textContent: prompt }),
    about(attention, "attention"),
    about(facts.join(" · "), "note"),
    ...error ? [about(error.message, "bad")] : [],
    ...(tilereel.notes ?? []).map((note) => about(`Note: ${note}.`, "note")),
    actions,
  );
  if (routed) item.append(more("Routes of all heads", (place) => showRoutes(id, place), does));
  if (tiles) item.append(more("Which tiles a tile looks at", (place) => TileView.open(place, job), does, "wide"));
  return item;
}

/** The attention of a clip, as `veda, keep 0.3`, with its step cache if it has one. */
function attentionOf({ tilereel: { record, values } }: VideoJob): string {
  const { attention = "default", keep, cache }: Record<string, unknown> = { ...values, ...record };
  return [
    `${attention} attention`,
    ...keep === undefined ? [] : [`keep ${keep}`],
    ...cache === undefined ? [] : [`cache ${cache}`],
  ].join(", ");
}

/** Something that is shown when it is opened for the first time. */
function more(
  title: string,
  show: (place: HTMLElement) => Promise<void>,
  { attempt }: Pick<CardActions, "attempt">,
  className = "",
): HTMLDetailsElement {
  const details = element("details", { className });
  details.append(element("summary", { textContent: title }));
  details.addEventListener("toggle", () => attempt(() => show(details)), { once: true });
  return details;
}

async function showRoutes(id: string, place: HTMLElement): Promise<void> {
  const { routes } = await ask<{ routes: readonly (readonly string[])[] }>(`/v1/videos/${id}/routes`);
  place.append(routeMap(routes.map((step) => step.map((heads) => Uint8Array.from(heads, Number)))));
}
