/// <reference lib="dom" />
import type { Likeness } from "../../cli/serve/side_messages.ts";
import { button, byId, element } from "../web/elements.ts";
import { ask, create, type FieldSchema, type VideoJob } from "./api.ts";
import { shareText, timeText } from "./cost.ts";
import { filesOf } from "./picture_fields.ts";
import { PointsChart } from "./points_chart.ts";
import { textOf } from "./settings_form.ts";

/** The shares of tiles that a curve has at first. */
const SHARES = [0.1, 0.25, 0.5, 0.75];
/** The most clips of a scene. */
const MOST = 100;

/** A clip of the scene, and how alike it is to the one with full attention. */
interface Point {
  readonly job: VideoJob;
  readonly name: string;
  readonly kind: string;
  readonly density: number;
  readonly likeness: Likeness | undefined;
}

/** Quality and time over density: clips of one scene with several settings of attention, as they are made. */
export class Curve {
  readonly #title = byId("curve-title");
  readonly #shares = byId<HTMLInputElement>("curve-shares");
  readonly #vorta = byId<HTMLInputElement>("curve-vorta");
  readonly #note = byId("curve-note");
  readonly #rows = byId("curve-rows");
  readonly #psnr = new PointsChart(byId("curve-psnr"), "PSNR against full attention, dB");
  readonly #ssim = new PointsChart(byId("curve-ssim"), "SSIM against full attention");
  readonly #time = new PointsChart(byId("curve-time"), "Time of a clip, s");
  /** What was asked for already, by the ids of both clips. */
  readonly #likeness = new Map<string, Promise<Likeness | undefined>>();
  #scene: string | undefined;
  #asked = 0;

  /** @param attempt does work, and shows what went wrong */
  constructor(
    private readonly place: HTMLElement,
    private readonly properties: Readonly<Record<string, FieldSchema>>,
    private readonly queued: (job: VideoJob) => void,
    attempt: (work: () => Promise<void>) => void,
  ) {
    this.#shares.value = SHARES.join(", ");
    byId("curve-form").addEventListener("submit", (event) => {
      event.preventDefault();
      attempt(() => this.#queue());
    });
    place.querySelector("h2")!.parentElement!.append(button("Close", () => this.close()));
  }

  /**
   * Asks for a scene with full attention and the shares that are chosen, and shows its curve.
   *
   * @param values of a form, with a seed
   * @param pictures that the clips are made of, by the keys of a request
   */
  async begin(values: Readonly<Record<string, unknown>>, pictures?: Readonly<Record<string, File>>): Promise<void> {
    const scene = Object.fromEntries(Object.entries(values).filter((entry) => this.#isOfScene(entry)));
    const full = await create({ ...scene, attention: "full" }, pictures);
    this.queued(full);
    await this.show(full);
    await this.#queue();
  }

  /** Shows the curve of a clip's scene. */
  async show({ tilereel: { scene } }: VideoJob): Promise<void> {
    this.#scene = scene;
    this.place.hidden = false;
    this.place.scrollIntoView({ block: "nearest" });
    this.#title.focus();
    await this.#update();
  }

  close(): void {
    this.#scene = undefined;
    this.place.hidden = true;
  }

  /** Shows a clip that was made, if it is one of the scene. */
  async add({ tilereel: { scene } }: VideoJob): Promise<void> {
    if (scene === this.#scene) await this.#update();
  }

  /** Whether an option says what a clip shows, and not by which methods it is computed. */
  #isOfScene([name]: readonly [string, unknown]): boolean {
    return this.properties[name]?.["x-method"] === undefined && name !== "tile-map";
  }

  async #jobs(): Promise<VideoJob[]> {
    const { data } = await ask<{ data: VideoJob[] }>(`/v1/videos?order=asc&limit=${MOST}&scene=${this.#scene}`);
    return data;
  }

  /** Asks for what the scene lacks: full attention, which the others are compared with, and the shares. */
  async #queue(): Promise<void> {
    const jobs = (await this.#jobs()).filter(({ status }) => status !== "failed"), [first] = jobs;
    if (!first) return;
    const { prompt, tilereel: { values, seed, pictures } } = first;
    const scene = Object.entries(values).filter((entry) => this.#isOfScene(entry)).map((
      [name, value],
    ) => [name, textOf(value)]);
    const shares = this.#shares.value.split(/[\s,;]+/).filter(Boolean);
    const wanted = [
      { attention: "full" },
      ...shares.map((keep) => ({ attention: "veda", keep })),
      ...this.#vorta.checked ? [{ attention: "vorta" }] : [],
    ];
    const made = new Set(jobs.map((job) => nameOf(job))), files = await filesOf(pictures);
    for (const methods of wanted) {
      const name = nameOfValues(methods);
      if (made.has(name)) continue;
      made.add(name);
      this.queued(await create({ ...Object.fromEntries(scene), prompt, seed, ...methods }, files));
    }
    await this.#update();
  }

  async #update(): Promise<void> {
    const asked = ++this.#asked, jobs = await this.#jobs();
    const done = jobs.filter(({ status }) => status === "completed"), full = done.findLast(isFull);
    const waiting = jobs.filter(({ status }) => status === "queued" || status === "in_progress").length;
    // Of clips with the same settings, the newest counts.
    const newest = new Map(done.map((job) => [nameOf(job), job]));
    const points = await Promise.all([...newest.values()].map(async (job): Promise<Point> => {
      const { attention, density } = job.tilereel.record!;
      const likeness = full && job !== full ? await this.#likenessOf(job.id, full.id) : undefined;
      return { job, name: nameOf(job), kind: String(attention), density: Number(density), likeness };
    }));
    if (asked !== this.#asked) return;
    points.sort((a, b) => a.density - b.density);
    this.#note.textContent = [
      `${jobs[0]?.prompt ?? "No clip"}.`,
      full ? "Likeness is that of the saved files to the one with full attention." : "Full attention is not made yet.",
      ...waiting > 0 ? [`${waiting} of these clips ${waiting === 1 ? "is" : "are"} not done yet.`] : [],
    ].join(" ");
    this.#rows.replaceChildren(...points.map(rowOf));
    const chart = (of: (point: Point) => number | null | undefined) =>
      points.flatMap((point) => {
        const y = of(point);
        return y === null || y === undefined ? [] : [{ x: 100 * point.density, y, series: point.kind }];
      });
    this.#psnr.show(chart(({ likeness }) => likeness?.psnr));
    this.#ssim.show(chart(({ likeness }) => likeness?.ssim));
    this.#time.show(chart(({ job }) => job.tilereel.took));
  }

  #likenessOf(id: string, to: string): Promise<Likeness | undefined> {
    const key = `${id} ${to}`;
    // A file that was removed has none.
    const found = this.#likeness.get(key) ?? ask<Likeness>(`/v1/videos/${id}/likeness?to=${to}`).catch(() => undefined);
    this.#likeness.set(key, found);
    return found;
  }
}

/** What a setting of attention is called. */
function nameOf({ tilereel: { values, record } }: VideoJob): string {
  return nameOfValues({ attention: "full", ...values as Record<string, unknown>, ...record });
}

function nameOfValues({ attention, keep, cache }: { attention?: unknown; keep?: unknown; cache?: unknown }): string {
  const share = keep === undefined ? "" : `, keep ${Number(keep)}`;
  return `${attention}${share}${cache === undefined ? "" : `, cache ${cache}`}`;
}

function isFull(job: VideoJob): boolean {
  return nameOf(job) === "full";
}

function rowOf({ name, density, job, likeness }: Point): HTMLTableRowElement {
  const row = element("tr"), { took } = job.tilereel;
  const likeText = (value: number | null, digits: number) => (value === null ? "equal" : value.toFixed(digits));
  const cells = [
    shareText(density),
    took === undefined ? "" : timeText(took),
    likeness ? `${likeText(likeness.psnr, 1)}${likeness.psnr === null ? "" : " dB"}` : "–",
    likeness ? likeness.ssim === null ? "–" : likeness.ssim.toFixed(3) : "–",
  ];
  row.append(
    element("th", { scope: "row", textContent: name }),
    ...cells.map((textContent) => element("td", { textContent })),
  );
  return row;
}
