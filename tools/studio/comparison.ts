/// <reference lib="dom" />
import { element } from "../web/elements.ts";
import type { Together } from "./together.ts";

/** A clip to compare: where its file is, what it is called, and its size and length as a text. */
export interface Compared {
  readonly source: string;
  readonly name: string;
  readonly size: string;
}

/** How clips are compared. Those after the first need two of one size. */
const WAYS = { side: "Side by side", wipe: "Wipe", difference: "Difference, four times as strong" } as const;
type Way = keyof typeof WAYS;

/** Clips beside one another, or two over one another: a slider wipes between them, or what differs is shown. */
export class Comparison {
  readonly #ways = element("fieldset", { className: "choices" });
  readonly #said = element("p", { className: "note" });
  readonly #split = element("input", { type: "range", min: "0", max: "100", value: "50" });
  readonly #wipe = element("label", { textContent: "Wipe from left to right " });
  readonly #grid = element("div", { className: "beside" });
  #videos: readonly HTMLVideoElement[] = [];
  #clips: readonly Compared[] = [];
  #way: Way = "wipe";

  constructor(private readonly place: HTMLElement, private readonly together: Together) {
    this.#ways.append(element("legend", { textContent: "Compare" }));
    for (const [way, text] of Object.entries(WAYS) as [Way, string][]) {
      const label = element("label"), input = element("input", { type: "radio", name: "way", value: way });
      input.addEventListener("change", () => {
        this.#way = way;
        this.#arrange();
      });
      label.append(input, ` ${text}`);
      this.#ways.append(label);
    }
    this.#wipe.append(this.#split);
    this.#split.addEventListener("input", () => this.#cut());
    place.append(this.#ways, this.#said, this.#wipe, this.#grid);
  }

  /** Compares clips; less than two are none. */
  show(clips: readonly Compared[]): void {
    this.place.hidden = clips.length < 2;
    for (const video of this.#videos) this.together.remove(video);
    this.#clips = this.place.hidden ? [] : clips;
    this.#videos = this.#clips.map(({ source, name }) => {
      const video = element("video", { src: source });
      video.setAttribute("aria-label", name);
      this.together.add(video);
      return video;
    });
    this.#arrange();
  }

  /** The way that was chosen, if these clips can be compared so. */
  get #possible(): Way {
    const [first, second] = this.#clips;
    return this.#clips.length === 2 && first!.size === second!.size ? this.#way : "side";
  }

  #arrange(): void {
    const way = this.#possible, [first, second] = this.#clips;
    const isPair = this.#clips.length === 2, isAlike = isPair && first!.size === second!.size;
    for (const input of this.#ways.querySelectorAll("input")) {
      input.checked = input.value === way;
      input.disabled = input.value !== "side" && !isAlike;
    }
    this.#said.textContent = way !== "side"
      ? `Left: ${first!.name}. Right: ${second!.name}.`
      : isPair && !isAlike
      ? "These differ in size or length, so they cannot be laid over one another."
      : isPair
      ? ""
      : "Two clips can also be laid over one another.";
    this.#wipe.hidden = way !== "wipe";
    if (way === "side") {
      this.#grid.replaceChildren(...this.#videos.map((video, i) => {
        const figure = element("figure");
        video.className = video.style.clipPath = "";
        figure.append(video, element("figcaption", { textContent: this.#clips[i]!.name }));
        return figure;
      }));
    } else {
      const stack = element("div", { className: `stack ${way}` });
      stack.append(...this.#videos);
      this.#grid.replaceChildren(stack);
      this.#cut();
    }
    // A video that is moved stops.
    this.together.setPlaying(this.together.playing);
  }

  #cut(): void {
    this.#videos[1]!.style.clipPath = this.#possible === "wipe" ? `inset(0 0 0 ${this.#split.value}%)` : "";
  }
}
