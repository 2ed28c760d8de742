/// <reference lib="dom" />
import { element } from "../web/elements.ts";
import type { Together } from "./together.ts";

/** A clip to compare: where its file is, and what it is called. */
export interface Compared {
  readonly source: string;
  readonly name: string;
}

/** Two clips over one another: a slider wipes between them, and a switch shows what differs. */
export class Comparison {
  readonly #under = element("video");
  readonly #over = element("video");
  readonly #split = element("input", { type: "range", min: "0", max: "100", value: "50" });
  readonly #difference = element("input", { type: "checkbox" });
  readonly #names = element("p", { className: "note" });

  constructor(private readonly place: HTMLElement, private readonly together: Together) {
    const stack = element("div", { className: "stack" }), wipe = element("label", { textContent: "Wipe " });
    stack.append(this.#under, this.#over);
    wipe.append(this.#split);
    const difference = element("label");
    difference.append(this.#difference, " Difference");
    this.#split.addEventListener("input", () => this.#arrange());
    this.#difference.addEventListener("change", () => this.#arrange());
    place.append(this.#names, stack, wipe, difference);
  }

  show(left: Compared, right: Compared): void {
    this.place.hidden = false;
    this.#under.src = left.source;
    this.#over.src = right.source;
    this.together.add(this.#under);
    this.together.add(this.#over);
    this.#names.textContent = `Left: ${left.name}. Right: ${right.name}.`;
    this.#arrange();
  }

  hide(): void {
    this.place.hidden = true;
    for (const video of [this.#under, this.#over]) {
      this.together.remove(video);
      video.removeAttribute("src");
    }
  }

  #arrange(): void {
    const { checked } = this.#difference;
    this.#over.classList.toggle("difference", checked);
    this.#over.style.clipPath = checked ? "" : `inset(0 0 0 ${this.#split.value}%)`;
    this.#split.disabled = checked;
  }
}
